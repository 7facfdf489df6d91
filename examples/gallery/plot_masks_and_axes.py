"""
Masks and axes
==============

`axis=` says which axes of an array have statistics of their own, `where=` which elements count.
A scan is scaled by the tissue alone; what is outside stays as it is.
"""

import matplotlib.pyplot as plt
import numpy as np

import normcore as nc

rng = np.random.default_rng(0)
i, j = np.mgrid[-1:1:96j, -1:1:96j]
inside = (i / 0.8) ** 2 + (j / 0.6) ** 2 < 1
tissue = 110 + 30 * np.cos(6 * i) * np.sin(5 * j) + rng.normal(0, 4, i.shape)
scan = np.where(inside, tissue, 0).astype(np.float32)
scan[~inside & (rng.random(scan.shape) < 0.02)] = 4000  # noise of the machine

# %%
# One statistic for everything (`axis=None`), with the mask and without.

with_mask = nc.StandardScaler(axis=None)
masked = with_mask.fit_transform(scan, where=inside)
plain = nc.StandardScaler(axis=None).fit_transform(scan)
print("mean of the tissue", float(with_mask.mean_), "deviation", float(with_mask.scale_))

figure, axes = plt.subplots(1, 3, figsize=(10, 3.4))
pictures = (
    ("scan", np.minimum(scan, 200), (0, 200)),
    ("scaled by everything", plain, (-3, 3)),
    ("scaled by the tissue", np.where(inside, masked, np.nan), (-3, 3)),
)
for ax, (title, image, limits) in zip(axes, pictures, strict=True):
    drawn = ax.imshow(image, vmin=limits[0], vmax=limits[1], cmap="viridis")
    ax.set(title=title, xticks=[], yticks=[])
    figure.colorbar(drawn, ax=ax, shrink=0.8)
plt.show()

# %%
# By channel, for a batch of images with channels last: three statistics, no copy.

images = rng.integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
print(nc.StandardScaler(axis=-1).fit(images).mean_)
