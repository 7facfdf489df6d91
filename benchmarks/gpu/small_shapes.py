"""Every kernel once on small shapes, for compute-sanitizer.

Memory comes straight from CUDA, not from CuPy's pool, so that every array has ends of its own.
"""

from __future__ import annotations

import itertools

import common
import cupy
import numpy as np

from normcore.affine import Affine

SHAPES = [(1, 1, 1), (37, 3, 1), (5, 33, 7), (1, 4, 129), (300, 70, 1), (2, 3, 0)]
DTYPES = ["float64", "float32", "float16", "int32", "uint8"]


def main() -> None:
    """Run all kernels on all shapes and dtypes."""
    cupy.cuda.set_allocator(None)
    backend = common.backend()
    rng = np.random.default_rng(0)
    for shape, dtype in itertools.product(SHAPES, DTYPES):
        x = cupy.asarray((rng.standard_normal(shape) * 9).astype(dtype))
        plane = cupy.asarray(rng.integers(0, 2, (shape[0], shape[2])) > 0)
        num_channels = shape[1]
        vector = cupy.asarray(rng.random(num_channels) + 0.5)
        affine = Affine(center=vector, scale=vector, gamma=2.0, beta=vector)
        first = backend.moments(x, skipna=True)
        backend.merge(first, backend.moments(x, weights=plane)).to_host()
        backend.extrema(x, skipna=True).to_host()
        ends = np.full((4, num_channels), -1.0), np.full((4, num_channels), 2.0)
        backend.brackets(x, *ends, weights=plane)
        y = backend.rescale(x, affine, clip=(0.0, 1.0), activation="relu", mask=plane)
        backend.backward_reduce(y, x, vector, relu_mask=affine, mask=plane)
        backend.backward_elemt(y, x, *[vector] * 4, relu_mask=affine, mask=plane)
        y, moments = backend.normalize(x, vector, vector, 1e-5, activation="relu", mask=plane)
        backend.normalize_backward(y, x, moments, vector, vector, 1e-5, activation="relu")
        backend.rescale(cupy.asnumpy(x), Affine(), refuse_infinite=True)
    cupy.cuda.Device().synchronize()
    print(f"{len(SHAPES) * len(DTYPES)} cases")


if __name__ == "__main__":
    main()
