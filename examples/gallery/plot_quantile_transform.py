"""
Any distribution to a uniform or normal one
===========================================

`QuantileTransformer` maps a feature by its ranks. Distances are lost, and outliers with them.
"""

import matplotlib.pyplot as plt
import numpy as np

import normcore as nc

rng = np.random.default_rng(0)
n = 3000
X = np.column_stack(
    [
        rng.lognormal(0, 1, n),
        np.concatenate([rng.normal(-4, 1, n // 2), rng.normal(3, 0.5, n // 2)]),
        rng.standard_t(2, n),
    ]
)
names = ("lognormal", "two peaks", "heavy tails")

# %%

uniform = nc.QuantileTransformer(n_quantiles=200).fit_transform(X)
normal = nc.QuantileTransformer(n_quantiles=200, output_distribution="normal").fit_transform(X)

figure, axes = plt.subplots(3, 3, figsize=(9, 6.5))
for row, (values, kind) in enumerate(((X, "raw"), (uniform, "uniform"), (normal, "normal"))):
    for column, name in enumerate(names):
        shown = values[:, column]
        if row == 0:
            shown = np.clip(shown, *np.percentile(shown, [0.5, 99.5]))
        axes[row, column].hist(shown, bins=50, color=f"C{row}")
        axes[row, column].set_yticks([])
        if row == 0:
            axes[row, column].set_title(name)
    axes[row, 0].set_ylabel(kind)
plt.show()

# %%
# New data are mapped by the landmarks of the old ones. On a stream these come from a sketch, within
# a rank error that is stated:

stream = nc.QuantileTransformer(n_quantiles=200, quantiles="sketch", quantile_error=0.005)
for part in np.array_split(X, 10):
    stream.partial_fit(part)
print("ranks differ by at most", np.abs(stream.transform(X) - uniform).max().round(4))
