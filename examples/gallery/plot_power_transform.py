"""
A power that makes data normal
==============================

`PowerTransformer` finds, for each feature, the power whose result is closest to a normal
distribution: the most likely lambda.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

import normcore as nc

rng = np.random.default_rng(0)
X = np.column_stack(
    [rng.lognormal(3, 0.6, 2000), rng.chisquare(3, 2000), 50 - rng.gamma(4, 3, 2000)]
)
names = ("lognormal", "chi-squared", "skewed to the left")

# %%
# Yeo-Johnson is the default and takes any sign; Box-Cox is for positive data.

transformer = nc.PowerTransformer().fit(X)
Y = transformer.transform(X)
print("lambdas", transformer.lambdas_.round(3))
print("skewness before", stats.skew(X).round(2), "after", stats.skew(Y).round(2))

figure, axes = plt.subplots(2, 3, figsize=(9, 5))
grid = np.linspace(-4, 4, 200)
for column, name in enumerate(names):
    axes[0, column].hist(X[:, column], bins=50)
    axes[0, column].set(title=name, yticks=[])
    axes[1, column].hist(Y[:, column], bins=50, density=True, color="C2")
    axes[1, column].plot(grid, stats.norm.pdf(grid), color="k", lw=1)
    axes[1, column].set(
        title=f"$\\lambda$ = {transformer.lambdas_[column]:.2f}", yticks=[], xlim=(-4, 4)
    )
plt.show()
