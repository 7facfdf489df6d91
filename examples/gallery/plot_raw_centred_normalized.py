"""
Raw, centred, normalized
========================

Normalization is two steps for each feature: subtract a center, divide by a scale. Here are the
measurements of 569 tumours: two of thirty columns, whose scales differ by a factor of tens of
thousands.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_breast_cancer

import normcore as nc

data = load_breast_cancer()
names = list(data.feature_names)
X = data.data[:, [names.index("mean area"), names.index("mean smoothness")]]

# %%
# A scaler that only centres, and one that does both. The axes of the last two pictures are equal,
# so that distances can be seen: centred data are a line as long as the largest feature is wide.

centred = nc.StandardScaler(with_std=False).fit_transform(X)
normalized = nc.StandardScaler().fit_transform(X)

figure, axes = plt.subplots(1, 3, figsize=(10, 3.6))
for ax, values, title in zip(
    axes, (X, centred, normalized), ("raw", "centred", "normalized"), strict=True
):
    for label, name in enumerate(data.target_names):
        chosen = data.target == label
        ax.scatter(*values[chosen].T, s=7, alpha=0.6, label=name)
    ax.axhline(0, color="0.6", lw=0.8)
    ax.axvline(0, color="0.6", lw=0.8)
    ax.set(title=title, xlabel="mean area")
    if title != "raw":
        ax.set_aspect("equal", adjustable="datalim")
axes[0].set_ylabel("mean smoothness")
axes[0].legend(loc="lower right", markerscale=2)
plt.show()

# %%
# The same four numbers describe every affine scaler: center, scale, and two that are 0 and 1 here.

scaler = nc.StandardScaler().fit(X)
print("center", scaler.mean_)
print("scale ", scaler.scale_)
