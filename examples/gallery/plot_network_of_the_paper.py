"""
The network of the batch norm paper
===================================

Three layers of 100 sigmoids on handwritten digits, as in Figure 1 of Ioffe and Szegedy (2015), with
batch norm before each nonlinearity and without.
"""

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import normcore as nc

X, labels = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(X))
train, held = order[:1297], order[1297:]
scaler = nc.StandardScaler().fit(X[train])
X = scaler.transform(X).astype(np.float32)

# %%
# The layers. `BatchNorm` has its own backward pass: the gradients of its input, gamma and beta.


class Layer:
    """A linear map, batch norm or a bias, and a sigmoid."""

    def __init__(self, rng, inputs, outputs, *, normalize):
        self.weights = rng.normal(0, 0.1, (inputs, outputs)).astype(np.float32)
        self.bn = nc.BatchNorm(outputs) if normalize else None
        self.bias = np.zeros(outputs, np.float32)

    def forward(self, x):
        """Return the activations of a batch."""
        self.x = x
        z = x @ self.weights
        self.z = self.bn(z) if self.bn else z + self.bias
        self.y = 1 / (1 + np.exp(-self.z))
        return self.y

    def step(self, dy, rate):
        """Move against the gradient, and return that of the input."""
        dz = dy * self.y * (1 - self.y)
        if self.bn:
            dz, dgamma, dbeta = self.bn.backward(dz)
            self.bn.gamma = self.bn.gamma - rate * dgamma
            self.bn.beta = self.bn.beta - rate * dbeta
        else:
            self.bias -= rate * dz.sum(axis=0)
        dx = dz @ self.weights.T
        self.weights -= rate * self.x.T @ dz
        return dx


def train_network(*, normalize, steps=300, rate=1.0):
    """Train one network; return accuracies, and what the last sigmoids were given meanwhile."""
    rng = np.random.default_rng(7)
    widths = (64, 100, 100, 100)
    layers = [Layer(rng, *pair, normalize=normalize) for pair in pairwise(widths)]
    head = rng.normal(0, 0.1, (100, 10)).astype(np.float32)
    accuracies, inputs = [], []
    for step in range(steps):
        if step % 10 == 0:  # statistics of the data stand for those of the population here
            for layer in layers:
                layer.bn and layer.bn.eval()
            y = X[held]
            for layer in layers:
                y = layer.forward(y)
            accuracies.append(np.mean((y @ head).argmax(axis=1) == labels[held]))
            inputs.append(np.percentile(layers[-1].z[:, :20], [15, 50, 85]))
            for layer in layers:
                layer.bn and layer.bn.train()
        rows = rng.choice(train, 60, replace=False)
        y = X[rows]
        for layer in layers:
            y = layer.forward(y)
        scores = y @ head
        chances = np.exp(scores - scores.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        chances[np.arange(60), labels[rows]] -= 1
        dy = chances @ head.T / 60
        head -= rate * y.T @ chances / 60
        for layer in reversed(layers):
            dy = layer.step(dy, rate)
    return np.array(accuracies), np.array(inputs)


# %%
# Accuracy on held-out images, and the 15th, 50th and 85th percentiles of what the last layer's
# sigmoids are given, as in the paper's Figure 1.

figure, axes = plt.subplots(1, 3, figsize=(11, 3.6))
for color, normalize in enumerate((False, True)):
    accuracies, inputs = train_network(normalize=normalize)
    steps = np.arange(len(accuracies)) * 10
    name = "with batch norm" if normalize else "without"
    axes[0].plot(steps, accuracies, label=name, color=f"C{color}")
    axes[1 + color].fill_between(steps, inputs[:, 0], inputs[:, 2], alpha=0.25, color=f"C{color}")
    axes[1 + color].plot(steps, inputs[:, 1], color=f"C{color}")
    axes[1 + color].set(title=f"last layer, {name}", xlabel="step", ylim=(-5, 5))
    print(f"{name}: {accuracies[-1]:.1%} of the held-out images")
axes[0].set(title="accuracy", xlabel="step", ylim=(0, 1))
axes[0].legend(loc="lower right")
plt.show()
