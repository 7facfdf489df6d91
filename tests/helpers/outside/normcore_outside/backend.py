"""A backend of NumPy expressions, with temporaries as large as its input."""

import math
import sys

import numpy as np

import normcore as nc
from normcore.array_backend.abstract import InfiniteInput


class OutsideBackend(nc.Backend):
    """Evaluates in whole-array NumPy what its own arithmetic says, in float64.

    Moments and brackets come from the reference backend, which takes NumPy arrays as they are.
    """

    name = "outside"
    xp = np

    @classmethod
    def probe(cls):
        """Say that it works wherever NumPy does."""
        return nc.BackendStatus(True, detail=f"NumPy {np.__version__}")

    def adopt(self, array):
        """Return a NumPy array of real numbers."""
        foreign = hasattr(array, "__dlpack__") and not isinstance(array, np.ndarray)
        array = np.from_dlpack(array) if foreign else np.asarray(array)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"arrays of dtype {array.dtype} cannot be normalized")
        return array

    def release(self, array, like):
        """Return what the caller's library makes of the array."""
        if isinstance(like, np.ndarray):
            return array
        if hasattr(like, "__array_namespace__"):
            return like.__array_namespace__().asarray(array)
        return sys.modules[type(like).__module__].from_dlpack(np.array(array))

    def moments(self, x, *, weights=None, skipna=False):
        """Return the moments, from the reference backend."""
        return nc.get_backend("reference").moments(x, weights=weights, skipna=skipna)

    def brackets(self, x, lower, upper, *, weights=None, skipna=False):
        """Return the brackets, from the reference backend."""
        reference = nc.get_backend("reference")
        return reference.brackets(x, lower, upper, weights=weights, skipna=skipna)

    def extrema(self, x, *, skipna=False):
        """Return the extrema of each channel."""
        rows = np.moveaxis(np.asarray(x, np.float64), 1, 0).reshape(x.shape[1], -1)
        valid = ~np.isnan(rows) if skipna else np.ones(rows.shape, bool)
        low = np.where(valid, rows, np.inf).min(axis=1, initial=np.inf)
        high = np.where(valid, rows, -np.inf).max(axis=1, initial=-np.inf)
        return nc.Extrema(valid.sum(axis=1).astype(np.float64), low, high)

    def rescale(
        self,
        x,
        affine,
        *,
        clip=None,
        activation=None,
        mask=None,
        out=None,
        refuse_infinite=False,
    ):
        """Evaluate the map, one rounded operation after the other."""
        if refuse_infinite and np.isinf(x).any():
            raise InfiniteInput("the input holds an infinite value")
        y = self._evaluate(x, affine)
        if clip is not None:
            y = np.clip(y, *clip)
        if activation == "relu":
            y = np.where(y < 0, 0.0, y)
        elif activation is not None:
            raise ValueError(f"unknown activation {activation!r}")
        return self._store(y, x, mask, out)

    def backward_reduce(self, dy, x, mean, *, relu_mask=None, mask=None):
        """Return both sums, each rounded once."""
        dy = self._through_relu(dy, x, relu_mask, mask)
        x = np.where(dy == 0, 0.0, np.asarray(x, np.float64))
        products = dy * (x - np.asarray(mean)[:, None])
        return tuple(
            np.array([math.fsum(terms[:, channel].flat) for channel in range(x.shape[1])])
            for terms in (dy, products)
        )

    def backward_elemt(self, dy, x, mean, a, b, d, *, relu_mask=None, mask=None, out=None):
        """Evaluate the gradient as its formula reads."""
        mean, a, b, d = (np.asarray(each)[:, None] for each in (mean, a, b, d))
        dx = a * self._through_relu(dy, x, relu_mask, None) - (
            b + d * (np.asarray(x, np.float64) - mean)
        )
        return self._store(dx, dy, mask, out)

    def _evaluate(self, x, affine):
        center, scale, gamma, beta = (each[:, None] for each in affine.vectors(x.shape[1], np))
        with np.errstate(all="ignore"):
            return ((np.asarray(x, np.float64) - center) / scale) * gamma + beta

    def _through_relu(self, dy, x, relu_mask, mask):
        dy = np.asarray(dy, np.float64)
        if relu_mask is not None:
            dy = np.where(self._evaluate(x, relu_mask) <= 0, 0.0, dy)
        return dy if mask is None else np.where(np.asarray(mask, bool)[:, None, :], dy, 0.0)

    def _store(self, y, like, mask, out):
        if mask is not None:
            y = np.where(np.asarray(mask, bool)[:, None, :], y, 0.0)
        if out is None:
            out = np.empty_like(like, dtype=like.dtype if like.dtype.kind == "f" else np.float64)
        with np.errstate(over="ignore"):
            out[...] = y
        return out
