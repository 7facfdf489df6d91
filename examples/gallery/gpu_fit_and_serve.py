"""
On a GPU
========

This example is shown and was not run: it needs a CUDA device and CuPy
(`pip install "normcore-arrays[cuda13]"`).
"""

import cupy as cp

import normcore as nc

X = 1e4 + 3 * cp.random.default_rng(0).standard_normal((10_000_000, 8), dtype=cp.float32)

# %%
# The array chooses the backend: statistics and maps run on the device, on the current stream.

scaler = nc.StandardScaler().fit(X)
Y = scaler.transform(X)  # a CuPy array
print(type(Y), scaler.mean_)

# %%
# What was learned belongs to no device. Save it there, serve on a host:

scaler.save("scaler.json")
host = nc.load("scaler.json").transform(cp.asnumpy(X[:5]))

# %%
# Batch norm follows its batches, forward and backward:

bn = nc.BatchNorm(64)
x = cp.random.default_rng(1).standard_normal((256, 64, 56, 56), dtype=cp.float32)
y = bn(x)
dx, dgamma, dbeta = bn.backward(y)

# %%
# A host array larger than the device's memory goes there in chunks and comes back:

with nc.use_backend("cupy"):
    scaled = scaler.transform(cp.asnumpy(X))
