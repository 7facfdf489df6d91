"""
Digits that float32 has
=======================

float32 data far from zero have fewer digits for what varies, but those they have are right.
Rounding the mean to float32, as other scalers do, throws them away.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.preprocessing import StandardScaler

import normcore as nc

rng = np.random.default_rng(0)
offsets = np.logspace(0, 7, 15)
errors = {"normcore": [], "scikit-learn": [], "NumPy in float32": []}
for offset in offsets:
    x = (offset + rng.normal(size=(5000, 1))).astype(np.float32)
    wide = x.astype(np.longdouble)
    exact = (wide - wide.mean()) / wide.std()
    results = (
        nc.StandardScaler().fit_transform(x),
        StandardScaler().fit_transform(x),
        (x - x.mean()) / x.std(),
    )
    for name, result in zip(errors, results, strict=True):
        errors[name].append(float(np.abs(result - exact).max()))

# %%
# The largest error of a scaled value, in standard deviations, against extended precision. The
# unit of the last place of float32 near 4 is 5e-7.

figure, ax = plt.subplots()
for marker, (name, values) in zip("os^", errors.items(), strict=True):
    ax.loglog(offsets, np.maximum(values, 1e-9), marker + "-", label=name)
ax.set(
    title="Largest error of StandardScaler on float32 of deviation 1",
    xlabel="offset",
    ylabel="deviations",
)
ax.legend()
plt.show()
