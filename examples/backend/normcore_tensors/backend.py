"""A backend for PyTorch's tensors on the host, in the operations of PyTorch."""

import sys
from fractions import Fraction

import numpy as np

import normcore as nc
from normcore.array_backend.abstract import InfiniteInput


class TensorBackend(nc.Backend):
    """Computes in float64 with whole tensors; statistics are tensors too."""

    name = "tensors"

    @classmethod
    def probe(cls):
        try:
            import torch
        except ImportError as error:
            return nc.BackendStatus(False, str(error))
        return nc.BackendStatus(True, detail=f"PyTorch {torch.__version__}")

    def __init__(self):
        import torch

        self.torch = torch

    # -- arrays in and out -----------------------------------------------------------------

    def adopt(self, array):
        if not isinstance(array, self.torch.Tensor):
            array = np.asarray(array)
            if array.dtype.kind not in "fiub":
                raise TypeError(f"arrays of dtype {array.dtype} cannot be normalized")
            if not array.flags.writeable or min((1, *array.strides)) < 0:
                array = array.copy()  # tensors are writable, and their strides not negative
            array = self.torch.from_numpy(array)
        if array.device.type != "cpu" or array.is_complex():
            raise TypeError(f"a tensor of {array.dtype} on {array.device} is not for this backend")
        return array.detach() if array.requires_grad else array

    def release(self, array, like):
        if isinstance(like, self.torch.Tensor):
            return self.adopt(array).to(like.device)
        array = array.numpy() if isinstance(array, self.torch.Tensor) else array
        if isinstance(like, np.ndarray):
            return array
        if hasattr(like, "__array_namespace__"):
            return like.__array_namespace__().asarray(array)
        return sys.modules[type(like).__module__].from_dlpack(array)

    # -- statistics ------------------------------------------------------------------------

    def moments(self, x, *, weights=None, skipna=False):
        values, weight, valid = self._rows(x, weights, skipna)
        state = [
            _state(values[valid[:, channel], channel].numpy(), weight[valid[:, channel]].numpy())
            for channel in range(x.shape[1])
        ]
        return nc.Moments(self.torch.tensor(np.reshape(state, (-1, 7)).T.copy()))

    def extrema(self, x, *, skipna=False):
        values, _, valid = self._rows(x, None, skipna)
        infinity = values.new_full((1, x.shape[1]), np.inf)
        low = self.torch.cat([infinity, values.where(valid, infinity)]).amin(0)
        high = self.torch.cat([-infinity, values.where(valid, -infinity)]).amax(0)
        return nc.Extrema(valid.sum(0).double(), low, high)

    def brackets(self, x, lower, upper, *, weights=None, skipna=False):
        torch = self.torch
        lower, upper = self._double(lower), self._double(upper)
        values, weight, valid = self._rows(x, weights, True)
        counted = valid * weight[:, None]
        count = counted.sum(0)
        if not skipna:
            present = values.isnan() & (weight > 0)[:, None]
            count = count.where(~present.any(0), values.new_tensor(np.nan))
        rows = [[], [], [], []]
        inside, inside_weights = [], []
        for low, high in zip(lower, upper, strict=True):
            between = valid & (values > low) & (values < high)
            places = (values < low, values == low, between, (values == high) & (low < high))
            for row, place in zip(rows, places, strict=True):
                row.append((counted * place).sum(0))
            channels = range(x.shape[1])
            inside.append([values[between[:, each], each] for each in channels])
            inside_weights.append([weight[between[:, each]] for each in channels])
        below, equal_lower, inside_count, equal_upper = (
            torch.stack(row) if row else lower for row in rows
        )
        infinite = (valid & values.isinf()).sum(0).double()
        return nc.statistics.Brackets(
            lower, upper, below, equal_lower, inside_count, equal_upper, count, infinite, inside,
            None if weights is None else inside_weights,
        )  # fmt: skip

    def _rows(self, x, weights, skipna):
        """Return values (N * S, C), their weights, and which of them count."""
        values = x.double().permute(0, 2, 1).reshape(-1, x.shape[1])
        plane = x.new_ones(()) if weights is None else weights
        weight = plane.double().expand(x.shape[0], x.shape[2]).reshape(-1)
        valid = (weight > 0)[:, None] & (~values.isnan() if skipna else values.new_ones(()) > 0)
        return values, weight, valid.expand(values.shape)

    def _double(self, vector):
        if isinstance(vector, self.torch.Tensor):
            return vector.double()
        return self.torch.tensor(np.array(vector, np.float64))

    # -- maps ------------------------------------------------------------------------------

    def rescale(
        self, x, affine, *, clip=None, activation=None, mask=None, out=None, refuse_infinite=False
    ):
        if refuse_infinite and x.isinf().any():
            raise InfiniteInput("the input holds an infinite value")
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
    lowest = exponent.min()
    whole = (mantissa * 2.0**53).astype(np.int64).astype(object)
    return whole << (exponent - lowest).astype(object), Fraction(2) ** (int(lowest) - 53)


def _pair(exact):
    """Return the two floats whose sum is nearest to a fraction."""
    high = float(exact)
    return high, float(exact - Fraction(high))
