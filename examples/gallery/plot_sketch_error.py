"""
Quantiles of a stream
=====================

A sketch keeps quantiles of any number of values in bounded memory, within a rank error that is
stated. Sketches of pieces merge.
"""

import matplotlib.pyplot as plt
import numpy as np

import normcore as nc

rng = np.random.default_rng(0)
X = rng.lognormal(0, 1.5, size=(300_000, 1))
ordered = np.sort(X[:, 0])

# %%
# `RobustScaler` from a sketch, in pieces, for several errors; then the ranks that the median really
# has in the data, whose number is known here.

errors = [0.05, 0.02, 0.01, 0.005, 0.002]
off, promised = [], []
for error in errors:
    scaler = nc.RobustScaler(quantiles="sketch", quantile_error=error)
    for part in np.array_split(X, 50):
        scaler.partial_fit(part)
    rank = np.searchsorted(ordered, scaler.center_[0]) / len(ordered)
    off.append(abs(rank - 0.5))
    promised.append(float(np.max(scaler.quantile_error_)))

figure, ax = plt.subplots()
ax.loglog(errors, promised, "s-", color="C1", label="quantile_error_, stated afterwards")
ax.loglog(errors, np.maximum(off, 1e-6), "o-", label="error of the median")
ax.loglog(errors, errors, color="0.6", lw=1, ls="--", label="quantile_error, asked for")
ax.set(title="Rank errors of a sketch over 50 pieces", xlabel="quantile_error", ylabel="rank")
ax.set_xticks(errors, errors)
ax.minorticks_off()
ax.legend()
plt.show()
