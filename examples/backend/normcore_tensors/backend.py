"""A backend for PyTorch's tensors on the host, in the operations of PyTorch."""

import sys
from fractions import Fraction

import numpy as np
import torch

import normcore as nc


class TensorBackend(nc.Backend):
    """Computes in float64 with whole tensors; statistics are tensors too."""

    name = "tensors"

    @classmethod
    def probe(cls):
        return nc.BackendStatus(True, detail=f"PyTorch {torch.__version__}")

    # -- arrays in and out -----------------------------------------------------------------

    def adopt(self, array):
        if not isinstance(array, torch.Tensor):
            array = np.asarray(array)
            if array.dtype.kind not in "fiub":
                raise TypeError(f"arrays of dtype {array.dtype} cannot be normalized")
            if not array.flags.writeable or min((1, *array.strides)) < 0:
                array = array.copy()  # tensors are writable, and their strides not negative
            array = torch.from_numpy(array)
        if array.device.type != "cpu" or array.is_complex():
            raise TypeError(f"a tensor of {array.dtype} on {array.device} is not for this backend")
        return array.detach() if array.requires_grad else array

    def release(self, array, like):
        if isinstance(like, torch.Tensor):
            return self.adopt(array).to(like.device)
        array = array.numpy() if isinstance(array, torch.Tensor) else array
        if isinstance(like, np.ndarray):
            return array
        if hasattr(like, "__array_namespace__"):
            return like.__array_namespace__().asarray(array)
        return sys.modules[type(like).__module__].from_dlpack(array)

    # -- statistics ------------------------------------------------------------------------

    def moments(self, x, *, weights=None, skipna=False):
        values, weight, valid = (each.numpy() for each in self._rows(x, weights, skipna))
        channels = range(x.shape[1])
        state = [_state(values[valid[:, c], c], weight[valid[:, c]]) for c in channels]
        return nc.Moments(torch.tensor(np.reshape(state, (-1, 7)).T.copy()))

    def extrema(self, x, *, skipna=False):
        values, _, valid = self._rows(x, None, skipna)
        infinity = values.new_full((1, x.shape[1]), np.inf)
        low = torch.cat([infinity, values.where(valid, infinity)]).amin(0)
        high = torch.cat([-infinity, values.where(valid, -infinity)]).amax(0)
        return nc.Extrema(valid.sum(0).double(), low, high)

    def brackets(self, x, lower, upper, *, weights=None, skipna=False):
        reference = nc.get_backend("reference")  # which takes tensors as they are
        return reference.brackets(x, lower, upper, weights=weights, skipna=skipna)

    def _rows(self, x, weights, skipna):
        """Return values (N * S, C), their weights, and which of them count."""
        values = x.double().permute(0, 2, 1).reshape(-1, x.shape[1])
        weight = values.new_ones(len(values)) if weights is None else weights.double().reshape(-1)
        valid = (weight > 0)[:, None] & (~values.isnan() | (not skipna))
        return values, weight, valid

    def _double(self, vector):
        tensor = vector if isinstance(vector, torch.Tensor) else np.array(vector, np.float64)
        return torch.as_tensor(tensor).double()

    # -- maps ------------------------------------------------------------------------------

    def rescale(
        self, x, affine, *, clip=None, activation=None, mask=None, out=None, refuse_infinite=False
    ):
        if refuse_infinite and x.isinf().any():
            raise nc.InfiniteInput("the input holds an infinite value")
        y = self._map(x, affine)
        if clip is not None:
            y = y.clamp(*clip)
        if activation is not None:
            y = y.where(~(y <= 0), y.new_zeros(()))
        return self._store(y, x, mask, out)

    def backward_reduce(self, dy, x, mean, *, relu_mask=None, mask=None):
        dy = self._gradient(dy, x, relu_mask, mask)
        x = x.double() if mask is None else x.double().where(_shown(mask), dy.new_zeros(()))
        xmu = x - self._double(mean)[:, None]
        return dy.sum((0, 2)), (dy * xmu).sum((0, 2))

    def backward_elemt(self, dy, x, mean, a, b, d, *, relu_mask=None, mask=None, out=None):
        mean, a, b, d = (self._double(each)[:, None] for each in (mean, a, b, d))
        dx = a * self._gradient(dy, x, relu_mask, None) - (b + d * (x.double() - mean))
        return self._store(dx, dy, mask, out)

    def _map(self, x, affine):
        center, scale, gamma, beta = (self._double(v)[:, None] for v in affine.vectors(x.shape[1]))
        return ((x.double() - center) / scale) * gamma + beta

    def _gradient(self, dy, x, relu_mask, mask):
        dy = dy.double()
        if relu_mask is not None:
            dy = dy.where(~(self._map(x, relu_mask) <= 0), dy.new_zeros(()))
        return dy if mask is None else dy.where(_shown(mask), dy.new_zeros(()))

    def _store(self, y, like, mask, out):
        y = y if mask is None else y.where(_shown(mask), y.new_zeros(()))
        if out is None:
            return y.to(like.dtype if like.is_floating_point() else y.dtype)
        return out.copy_(y)


def _shown(mask):
    return (mask != 0)[:, None, :]


def _state(values, weights):
    """Return the state of the moments of one channel, from sums that are exact."""
    if not np.isfinite(values).all():
        return weights.sum(), 0.0, values.sum(), 0.0, np.nan, 0.0, 0.0
    if not values.size:
        return (0.0,) * 7
    (x, x_unit), (w, w_unit) = _whole(values), _whole(weights)
    count, total, squares = w.sum(), (w * x).sum(), (w * x * x).sum()
    m2 = Fraction(squares * count - total * total, count) * w_unit
    exponent = int(np.frexp(np.abs(values).max())[1])
    unit = x_unit / Fraction(2) ** exponent  # so that a square of 1e200 is a float
    return (
        *_pair(count * w_unit), *_pair(total * w_unit * unit), *_pair(m2 * unit**2), exponent
    )  # fmt: skip


def _whole(values):
    """Return floats as integers of any size, and the unit that they count in."""
    mantissa, exponent = np.frexp(values)
    lowest = int(exponent.min())
    whole = (mantissa * 2.0**53).astype(np.int64).astype(object)
    return whole << (exponent - lowest).astype(object), Fraction(2) ** (lowest - 53)


def _pair(exact):
    """Return the two floats whose sum is nearest to a fraction."""
    high = float(exact)
    return high, float(exact - Fraction(high))
