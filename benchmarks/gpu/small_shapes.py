"""Every kernel once on small shapes, for compute-sanitizer.

Memory comes straight from CUDA, not from CuPy's pool, so that every array has ends of its own, and
is not initialized.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Sequence

import cupy
import numpy as np
from normcore_cupy.launcher import FLOATING

import normcore as nc
from benchmarks.gpu import common
from normcore.affine import Affine
from normcore.layout.namespace import Array

SHAPES = [
    (1, 1, 1), (37, 3, 1), (5, 33, 7), (1, 4, 129), (300, 70, 1), (2, 3, 8196), (2, 3, 0),
]  # fmt: skip
DTYPES = ["float32", "float16", "float64", "int32", "uint8"]


def main(seconds: float, dtypes: Sequence[str] = DTYPES) -> None:
    """Run all kernels on all shapes and dtypes there is time for; float32 first."""
    deadline = time.monotonic() + seconds
    cupy.cuda.set_allocator(None)
    common.backend()
    common.optional("ml_dtypes")  # gives NumPy bfloat16
    rng = np.random.default_rng(0)
    done = 0
    for dtype, shape in itertools.product(dtypes, SHAPES):
        if time.monotonic() > deadline:
            print("out of time", flush=True)
            break
        x = cupy.asarray((rng.standard_normal(shape) * 9).astype(dtype))
        channels(x, rng)
        if x.shape[0] * x.shape[2] > 1 and dtype in FLOATING:
            batches(x)
        if x.size:
            rows(x[:, :, 0])
        cupy.cuda.Device().synchronize()
        done += 1
    print(f"{done} cases", flush=True)


def channels(x: Array, rng: np.random.Generator) -> None:
    """Run what works on channels, with planes, clips and activations."""
    backend = common.backend()
    plane = cupy.asarray(rng.integers(0, 2, (x.shape[0], x.shape[2])) > 0)
    num_channels = x.shape[1]
    vector = cupy.asarray(rng.random(num_channels) + 0.5)
    affine = Affine(center=vector, scale=vector, gamma=2.0, beta=vector)
    first = backend.moments(x, skipna=True)
    backend.merge(first, backend.moments(x, weights=plane)).to_host()
    backend.extrema(x, skipna=True).to_host()
    ends = np.full((4, num_channels), -1.0), np.full((4, num_channels), 2.0)
    backend.brackets(x, *ends, weights=plane)
    backend.quantiles(x, [0.25, 0.5], skipna=True)
    y = backend.rescale(x, affine, clip=(0.0, 1.0), activation="relu", mask=plane)
    backend.backward_reduce(y, x, vector, relu_mask=affine, mask=plane)
    backend.backward_elemt(y, x, *[vector] * 4, relu_mask=affine, mask=plane)
    y, moments = backend.normalize(x, vector, vector, 1e-5, activation="relu", mask=plane)
    backend.normalize_backward(y, x, moments, vector, vector, 1e-5, activation="relu")
    backend.rescale(cupy.asnumpy(x), Affine(), refuse_infinite=True)


def batches(x: Array) -> None:
    """Run batch norm, forward and backward, on arrays as callers have them."""
    y, moments = nc.functional.batch_norm(x)
    nc.functional.batch_norm_backward(y, x, moments)


def rows(x: Array) -> None:
    """Run what works on samples: layer and RMS norm, forward and backward."""
    gamma, beta = cupy.ones(x.shape[1]), cupy.zeros(x.shape[1])
    y, moments = nc.functional.layer_norm(x, gamma, beta)
    nc.functional.layer_norm_backward(y, x, moments, gamma)
    y, moments = nc.functional.rms_norm(x, gamma)
    nc.functional.rms_norm_backward(y, x, moments, gamma)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=math.inf)
    main(**vars(parser.parse_args()))
