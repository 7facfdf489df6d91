"""The network of Figure 1, many of them at a time, in NumPy and normcore.

Activations are of shape (samples, networks, units). Batch norm treats each channel by itself, so
the layers of all networks side by side are one layer of networks * units channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

import normcore as nc

__all__ = [
    "ACTIVATIONS",
    "BatchNorm",
    "Dense",
    "Dropout",
    "Network",
    "cross_entropy",
    "population_statistics",
]


class Layer(Protocol):
    """What a network is made of; `backward` belongs to the latest `forward`."""

    parameters: Sequence[np.ndarray]  # each of shape (networks, ...)
    gradients: Sequence[np.ndarray]  # of the same shapes, set by `backward`
    training: bool

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Map a batch of shape (samples, networks, inputs)."""
        ...

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return the gradient with respect to the input, and set those of the parameters."""
        ...


class Dense:
    """``y = x @ weights + bias`` in each network; without `bias` in front of a batch norm."""

    training = True

    def __init__(self, weights: np.ndarray, *, bias: bool) -> None:
        self.weights = weights  # (networks, inputs, outputs)
        self.bias = np.zeros_like(weights[:, 0]) if bias else None
        self.parameters = [weights] if self.bias is None else [weights, self.bias]

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.x = x
        y = _matmul(x, self.weights)
        return y if self.bias is None else np.add(y, self.bias, out=y)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        self.gradients = [np.matmul(self.x.transpose(1, 2, 0), dy.swapaxes(0, 1))]
        if self.bias is not None:
            self.gradients.append(dy.sum(axis=0))
        return _matmul(dy, self.weights.swapaxes(1, 2))


def _matmul(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Multiply the matrix of each network, where the samples come first."""
    y = np.empty((*x.shape[:2], weights.shape[2]), x.dtype)
    np.matmul(x.swapaxes(0, 1), weights, out=y.swapaxes(0, 1))
    return y


class BatchNorm:
    """normcore's batch norm of every unit of every network."""

    def __init__(self, networks: int, units: int) -> None:
        self.layer = nc.BatchNorm(networks * units)
        # Views: the layer follows when an optimizer changes them in place.
        self.parameters = [
            each.reshape(networks, units) for each in (self.layer.gamma, self.layer.beta)
        ]

    @property
    def training(self) -> bool:
        return self.layer.training

    @training.setter
    def training(self, mode: bool) -> None:
        self.layer.train(mode)

    def forward(self, x: np.ndarray) -> np.ndarray:
        return self.layer(x.reshape(len(x), -1)).reshape(x.shape)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dx, *gradients = self.layer.backward(dy.reshape(len(dy), -1))
        self.gradients = [each.reshape(dy.shape[1:]) for each in gradients]
        return dx.reshape(dy.shape)


class Sigmoid:
    """``1 / (1 + exp(-x))``, written such that nothing overflows."""

    training, parameters, gradients = True, (), ()

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.y = 0.5 + 0.5 * np.tanh(0.5 * x)
        return self.y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return dy * self.y * (1.0 - self.y)


class Relu:
    """``max(x, 0)``."""

    training, parameters, gradients = True, (), ()

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.y = np.maximum(x, 0)
        return self.y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return dy * (self.y > 0)


#: A nonlinearity with two horizontal asymptotes, and one that saturates on one side only.
ACTIVATIONS = {"sigmoid": Sigmoid, "relu": Relu}


class Dropout:
    """Zero each value with probability `rate` in training; scale the others so as to keep means."""

    training = True
    parameters, gradients = (), ()

    def __init__(self, rate: float, rng: np.random.Generator) -> None:
        self.rate, self.rng = rate, rng

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.factor = None
        if not self.training:
            return x
        kept = self.rng.random(x.shape, dtype=np.float32) >= self.rate
        self.factor = (kept / (1.0 - self.rate)).astype(x.dtype)
        return x * self.factor

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return dy if self.factor is None else dy * self.factor


class Network:
    """Layers in a row, up to the scores of the classes.

    Parameters
    ----------
    weights : sequence of ndarray of shape (networks, inputs, outputs)
        Initial weights of each fully connected layer; they are trained in place.
    batch_norm : bool
        Whether each hidden layer has batch norm before its nonlinearity (section 3.2 of the paper).
    activation : {"sigmoid", "relu"}
        The nonlinearity of hidden layers.
    dropout : float
        Which part of each hidden layer's output is dropped in training.
    rng : Generator, optional
        Draws what is dropped.
    """

    def __init__(
        self,
        weights: Sequence[np.ndarray],
        *,
        batch_norm: bool,
        activation: str = "sigmoid",
        dropout: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.layers: list[Layer] = []
        self.before_activation: list[Layer] = []  # of each hidden layer, whose output goes into it
        for each in weights[:-1]:
            self.layers.append(Dense(each, bias=not batch_norm))
            if batch_norm:
                self.layers.append(BatchNorm(len(each), each.shape[2]))
            self.before_activation.append(self.layers[-1])
            self.layers.append(ACTIVATIONS[activation]())
            if dropout:
                self.layers.append(Dropout(dropout, rng or np.random.default_rng(0)))
        self.layers.append(Dense(weights[-1], bias=True))

    @property
    def batch_norms(self) -> list[nc.BatchNorm]:
        """The layers of normcore in it."""
        return [each.layer for each in self.layers if isinstance(each, BatchNorm)]

    def train(self, mode: bool = True) -> Network:
        """Normalize with the statistics of the batch, and drop; returns self."""
        for each in self.layers:
            each.training = mode
        return self

    def eval(self) -> Network:
        """Normalize with the population's statistics, and drop nothing; returns self."""
        return self.train(False)

    def forward(self, x: np.ndarray, *, seen: dict[Layer, np.ndarray] | None = None) -> np.ndarray:
        """Return scores of shape (samples, networks, classes); `seen` gets each layer's output."""
        for each in self.layers:
            x = each.forward(x)
            if seen is not None:
                seen[each] = x
        return x

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return the gradient with respect to the input of the latest forward pass."""
        for each in reversed(self.layers):
            dy = each.backward(dy)
        return dy

    def descend(self, learning_rate: np.ndarray) -> None:
        """Take a step of gradient descent, with a rate of shape (networks,)."""
        for each in self.layers:
            for parameter, gradient in zip(each.parameters, each.gradients, strict=True):
                rate = learning_rate.reshape(-1, *[1] * (gradient.ndim - 1))
                parameter -= rate.astype(gradient.dtype) * gradient


def cross_entropy(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean negative log likelihood of each network, and its gradient.

    Parameters
    ----------
    scores : ndarray of shape (samples, networks, classes)
    labels : integer ndarray of shape (samples, networks)

    Returns
    -------
    loss : ndarray of shape (networks,)
    dscores : ndarray of the shape of `scores`
    """
    shifted = scores - scores.max(axis=2, keepdims=True)
    log_likelihood = shifted - np.log(np.exp(shifted).sum(axis=2, keepdims=True))
    true_class = labels[:, :, np.newaxis]
    loss = -np.take_along_axis(log_likelihood, true_class, axis=2).mean(axis=(0, 2))
    dscores = np.exp(log_likelihood)
    np.put_along_axis(
        dscores, true_class, np.take_along_axis(dscores, true_class, axis=2) - 1.0, axis=2
    )
    return loss, dscores / len(scores)


def population_statistics(network: Network, batches: Sequence[np.ndarray]) -> None:
    """Replace running statistics by those of the population (Algorithm 2 of the paper, line 10).

    ``E[x] = E_B[mu_B]`` and ``Var[x] = m / (m - 1) * E_B[var_B]`` over mini-batches of one size m.
    Nothing is dropped meanwhile.
    """
    network.eval()
    with nc.population_statistics(network.batch_norms, method="algorithm2"):
        for x in batches:
            network.forward(x)
