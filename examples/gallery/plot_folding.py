"""
Folding batch norm into the layer before it
===========================================

In inference a batch norm is an affine map of each channel, and a linear map before it can do that
by itself: `fold_batch_norm` gives its weights. The network is one layer shorter and computes the
same.
"""

import matplotlib.pyplot as plt
import numpy as np

import normcore as nc

rng = np.random.default_rng(0)
weight, bias = rng.normal(size=(12, 30)), rng.normal(size=12)
bn = nc.BatchNorm(12)
bn.gamma, bn.beta = rng.uniform(0.5, 2, 12), rng.normal(size=12)
for _ in range(50):  # running statistics
    bn(rng.normal(1, 2, size=(64, 30)) @ weight.T + bias)
bn.eval()

# %%
# The folded weights and bias, and the largest difference between both networks:

folded, shift = nc.functional.fold_batch_norm(
    weight, bias, bn.running_mean, bn.running_var, bn.gamma, bn.beta, where="after", eps=bn.eps
)
x = rng.normal(1, 2, size=(1000, 30))
two_layers = bn(x @ weight.T + bias)
one_layer = x @ folded.T + shift
print("largest difference", np.abs(two_layers - one_layer).max())

# %%

figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), width_ratios=[1, 1, 0.9])
for ax, (title, matrix) in zip(
    axes, (("weights", weight), ("with batch norm folded in", folded)), strict=False
):
    limit = np.abs(matrix).max()
    drawn = ax.imshow(matrix, vmin=-limit, vmax=limit, cmap="RdBu", aspect="auto")
    figure.colorbar(drawn, ax=ax)
    ax.set(title=title, xlabel="input", ylabel="output")
axes[2].plot(two_layers.ravel(), one_layer.ravel(), ".", ms=2)
axes[2].set(title="outputs", xlabel="linear map and batch norm", ylabel="folded map")
plt.show()
