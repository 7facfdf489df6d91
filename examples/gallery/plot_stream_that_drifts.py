"""
A stream that drifts
====================

Readings come in batches, and the sensor warms up. Statistics merge, so a fit of all readings so far
costs one batch at a time, and one of the latest hour is a merge of the latest batches.
"""

from collections import deque

import matplotlib.pyplot as plt
import numpy as np

import normcore as nc

rng = np.random.default_rng(0)
drift = np.concatenate([np.zeros(40), np.linspace(0, 6, 60), np.full(60, 6.0)])
batches = [rng.normal(20 + shift, 1, size=(100, 1)) for shift in drift]

# %%
# A scaler for everything so far, and one for the last twenty batches: each batch has a scaler of
# its own, and merging them is exact.

everything = nc.StandardScaler()
window = deque(maxlen=20)
means, scaled = [], []
for batch in batches:
    everything.partial_fit(batch)
    window.append(nc.StandardScaler().fit(batch))
    recent = nc.StandardScaler()
    for each in window:
        recent.merge(each)
    means.append([everything.mean_[0], recent.mean_[0]])
    scaled.append([everything.transform(batch).mean(), recent.transform(batch).mean()])

# %%
# Scaled by all that was seen, the warm sensor looks broken for ever; by the window, for a while.

figure, axes = plt.subplots(1, 2, figsize=(10, 3.6))
axes[0].plot([batch.mean() for batch in batches], ".", color="0.6", label="mean of a batch")
for ax, values in zip(axes, (np.array(means), np.array(scaled)), strict=True):
    ax.plot(values[:, 0], label="of all so far")
    ax.plot(values[:, 1], label="of the last 20 batches")
    ax.set_xlabel("batch")
axes[0].set(title="learned mean", ylabel="degrees")
axes[1].set(title="mean of each batch, scaled", ylabel="deviations")
axes[0].legend()
plt.show()
