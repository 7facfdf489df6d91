"""
One-hot columns beside dense ones
=================================

A column of zeros and ones is on a good scale as it is, and standardizing a rare one makes its ones
huge. `nc.recommend` looks at each column and scales what needs it.
"""

import matplotlib.pyplot as plt
import numpy as np

import normcore as nc

rng = np.random.default_rng(0)
n = 2000
city = rng.choice(4, size=n, p=[0.6, 0.3, 0.09, 0.01])
X = np.column_stack([rng.normal(44, 14, n), rng.lognormal(10, 0.6, n), np.eye(4)[city]])
names = ["age", "income", "Oslo", "Lima", "Kyoto", "Suva"]

# %%
# Which scaler each column is given, and why:

report = nc.report(X)
for name, column in zip(names, report.columns, strict=True):
    print(f"{name:7}{column.recommendation.scaler!s:10}{column.recommendation.reason}")

# %%
# The largest value of each column, scaled all alike and as recommended:

alike = nc.StandardScaler().fit_transform(X)
chosen = nc.recommend(X).fit_transform(X)

figure, ax = plt.subplots()
places = np.arange(6)
ax.bar(places - 0.2, np.abs(alike).max(axis=0), width=0.4, label="StandardScaler for all")
ax.bar(places + 0.2, np.abs(chosen).max(axis=0), width=0.4, label="nc.recommend(X)")
ax.set_xticks(places, names)
ax.set(ylabel="largest magnitude", title="A rare category becomes the largest input of all")
ax.legend()
plt.show()
