"""
Population statistics
=====================

Running statistics are a moving average: they follow the last few batches. For deployment the
statistics of all data are better: `population_statistics` finds them in one pass, whatever the
sizes of the batches.
"""

import matplotlib.pyplot as plt
import numpy as np

import normcore as nc

rng = np.random.default_rng(0)
X = rng.gamma(2.0, 1.5, size=(10_000, 1)) + 5
batches = np.split(X, np.cumsum(rng.integers(8, 64, 250))[:-20])
exact = X.mean(), X.var(ddof=1)

# %%
# The running mean and variance after each batch of one epoch:

bn = nc.BatchNorm(1, momentum=0.1)
trace = []
for batch in batches:
    bn(batch)
    trace.append((bn.running_mean[0], bn.running_var[0]))
trace = np.array(trace)

# %%
# And those of the population. The loop is the one of training; nothing is learned in it.

with nc.population_statistics([bn]):
    for batch in batches:
        bn(batch)
print("mean    ", bn.running_mean[0], "of all data", exact[0])
print("variance", bn.running_var[0], "of all data", exact[1])

figure, axes = plt.subplots(1, 2, figsize=(10, 3.6))
found = bn.running_mean[0], bn.running_var[0]
for column, (ax, title) in enumerate(zip(axes, ("mean", "variance"), strict=True)):
    ax.plot(trace[:, column], lw=1, label="running, momentum 0.1")
    ax.axhline(found[column], color="C1", label="population_statistics")
    ax.plot(0, exact[column], "k>", ms=9, clip_on=False, label="all data")
    ax.set(title=title, xlabel="batch")
axes[1].legend(loc="lower right")
plt.show()
