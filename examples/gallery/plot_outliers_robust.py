"""
Outliers and robust scaling
===========================

A few wild values set the mean, the deviation and the range of a whole feature. Quartiles and
percentiles do not look at them.
"""

import matplotlib.pyplot as plt
import numpy as np

import normcore as nc

rng = np.random.default_rng(1)
X = rng.normal(20, 2, size=(1000, 1))
X[::50] = rng.uniform(150, 400, size=(20, 1))  # 2% of the sensor's values are faults

# %%
# What becomes of the 98% that are good. One that keeps them apart uses the room it has for them.

scalers = {
    "StandardScaler": nc.StandardScaler(),
    "MinMaxScaler": nc.MinMaxScaler(),
    "RobustScaler": nc.RobustScaler(),
    "PercentileScaler(clip='soft')": nc.PercentileScaler((1, 97), clip="soft"),
}
good = X[:, 0] < 100
figure, axes = plt.subplots(2, 2, figsize=(9, 5))
for ax, (name, scaler) in zip(axes.flat, scalers.items(), strict=True):
    Y = scaler.fit_transform(X)
    low, high = np.percentile(Y[good], [0, 100])
    ax.hist(Y[good, 0], bins=40, label="good", color="C0")
    ax.plot(Y[~good, 0], np.full((~good).sum(), 4), "x", color="C1", label="faults")
    ax.set_title(f"{name}: good values span {high - low:.3g}")
axes[0, 0].legend()
plt.show()

# %%
# A fit with weights is another way, where one knows which values are good.

weighted = nc.StandardScaler().fit(X, sample_weight=good.astype(float))
print("mean", weighted.mean_, "deviation", weighted.scale_)
