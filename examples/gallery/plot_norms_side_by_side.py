"""
Batch, layer, instance and group norm
=====================================

They are one map; what differs is over which elements a mean and a deviation are taken. Here is one
batch of feature maps whose samples and channels have offsets of their own.
"""

import matplotlib.pyplot as plt
import numpy as np

import normcore as nc

rng = np.random.default_rng(0)
samples, channels = 8, 12
x = rng.normal(size=(samples, channels, 16))
x += 3 * rng.normal(size=(samples, 1, 1)) + 3 * rng.normal(size=(1, channels, 1))

# %%
# The mean of each sample and channel, before and after. Batch norm takes away what a channel has,
# layer norm what a sample has, instance norm both, group norm something between.

results = {
    "input": x,
    "batch norm": nc.BatchNorm(channels)(x),
    "layer norm": nc.LayerNorm((channels, 16))(x),
    "instance norm": nc.InstanceNorm(channels)(x),
    "group norm, 3 groups": nc.GroupNorm(3, channels)(x),
}
figure, axes = plt.subplots(1, 5, figsize=(12, 2.9))
for ax, (name, y) in zip(axes, results.items(), strict=True):
    means = y.mean(axis=2)
    drawn = ax.imshow(means, vmin=-4, vmax=4, cmap="RdBu", aspect="auto")
    ax.set(title=name, xlabel="channel", xticks=[], yticks=[])
axes[0].set_ylabel("sample")
figure.colorbar(drawn, ax=axes, label="mean")
plt.show()
