"""The CPU backend: NumPy arrays, and other arrays in host memory through DLPack."""

from __future__ import annotations

import sys
from typing import ClassVar, Self, cast

import numpy as np

from normcore.affine import Affine
from normcore.array_backend.abstract import Backend, InfiniteInput, is_relu
from normcore.array_backend.memory_kernels import MemoryKernels
from normcore.array_backend.status import BackendStatus, Misconfigured
from normcore.layout.bfloat16 import is_bfloat16, is_real
from normcore.layout.namespace import Array, host_view
from normcore.layout.numpy_views import is_floats
from normcore.layout.out_argument import result_dtype
from normcore.statistics import Extrema, Moments, Statistic
from normcore.statistics.brackets import Brackets, Quantiles
from normcore.statistics.exact_quantiles import exact
from normcore.statistics.statistic import StatisticT
from normcore.threads import get_num_threads
from normcore_cpu import segments
from normcore_cpu.instruction_sets import check, chosen, kernels

__all__ = ["CpuBackend"]


class CpuBackend(Backend):
    """Cython kernels on the shared pool of threads.

    Takes every real dtype of NumPy up to 64 bits, any strides, read-only arrays; computes in
    float64 and rounds once to the dtype of the result. The same input gives the same bits for
    any number of threads and any instruction set.

    Parameters
    ----------
    instruction_set : {"baseline", "avx2", "avx512"}, optional
        The build of the kernels to use; by default the best one for this processor, or what the
        variable ``NORMCORE_INSTRUCTION_SET`` names.

    Raises
    ------
    ValueError
        If it is unknown, or this machine or build lacks it.
    """

    name: ClassVar[str] = "cpu"
    xp = np

    def __init__(self, instruction_set: str | None = None) -> None:
        self._asked = instruction_set
        self.instruction_set = check(instruction_set) if instruction_set else chosen()
        self._kernels = kernels(self.instruction_set)
        self._rescale = self._kernels.rescale
        self.memory_kernels: MemoryKernels = self._kernels.TensorKernels(self)
        self.c_functions = self._kernels.c_functions
        self._native: Backend | None = None

    @property
    def native(self) -> Backend:
        if self._native is None:
            from normcore_cpu.native import NativeCpuBackend  # which derives from this class

            self._native = NativeCpuBackend(self._asked)
        return self._native

    def __reduce__(self) -> tuple[type[Self], tuple[str | None]]:
        """As what it was made with: another machine may lack these instructions."""
        return type(self), (self._asked,)

    @classmethod
    def probe(cls) -> BackendStatus:
        try:
            return BackendStatus(True, detail=f"{chosen()}, threads: {get_num_threads()}")
        except ValueError as error:
            return Misconfigured(False, str(error))

    def adopt(self, array: Array) -> np.ndarray:
        if is_floats(array):
            return array
        if not isinstance(array, np.ndarray):
            array = _from_host(array)
        itemsize = array.dtype.itemsize
        if not is_real(array.dtype):
            raise TypeError(f"cannot normalize an array of dtype {array.dtype}; use real numbers")
        if itemsize > 8 or not array.dtype.isnative or not array.flags.aligned:
            return array.astype(np.float64 if itemsize > 8 else array.dtype.newbyteorder("="))
        return array

    def release(self, array: np.ndarray, like: Array) -> Array:
        if isinstance(like, np.ndarray):
            return array
        named = getattr(like, "__array_namespace__", None)
        if named is not None:
            return named().asarray(array, device=like.device)
        if not array.flags.writeable:  # DLPack hands out writable memory
            array = array.copy()
        library = sys.modules[type(like).__module__.split(".")[0]]
        if is_bfloat16(array.dtype):  # as integers: NumPy's DLPack has no bfloat16
            return library.from_dlpack(array.view(np.int16)).view(library.bfloat16)
        return library.from_dlpack(array)

    def moments(
        self, x: np.ndarray, *, weights: np.ndarray | None = None, skipna: bool = False
    ) -> Moments:
        return Moments(self._kernels.moments(x, weights, skipna))

    def moments_apart(self, x: np.ndarray) -> Moments:
        return Moments(self._kernels.moments(x, None, False, True))

    def extrema(self, x: np.ndarray, *, skipna: bool = False) -> Extrema:
        count, least, largest = self._kernels.extrema(x)
        if not skipna:
            positions = float(x.shape[0] * x.shape[2])
            incomplete = count < positions
            least, largest = (np.where(incomplete, np.nan, each) for each in (least, largest))
            count = np.full_like(count, positions)
        return Extrema(count, least, largest)

    def brackets(
        self,
        x: np.ndarray,
        lower: np.ndarray,
        upper: np.ndarray,
        *,
        weights: np.ndarray | None = None,
        skipna: bool = False,
    ) -> Brackets:
        lower, upper = (np.ascontiguousarray(each, dtype=np.float64) for each in (lower, upper))
        expected = (lower.shape[0], x.shape[1])
        if lower.shape != expected or upper.shape != expected:
            raise ValueError(
                f"brackets have shapes {lower.shape} and {upper.shape}, expected {expected}"
            )
        found = self._kernels.brackets(x, lower, upper, weights, skipna)
        return Brackets(lower, upper, *found)

    def quantiles(
        self,
        x: np.ndarray,
        q: np.ndarray,
        *,
        weights: np.ndarray | None = None,
        skipna: bool = False,
    ) -> Quantiles:
        return exact(self, x, q, weights=weights, skipna=skipna, selection=self._kernels)

    def observe_entries(
        self,
        statistic: type[StatisticT],
        values: np.ndarray,
        channels: np.ndarray,
        num_channels: int,
        *,
        weights: np.ndarray | None = None,
    ) -> tuple[StatisticT, np.ndarray] | None:
        if statistic not in (Moments, Extrema):
            return None
        values, starts = segments.grouped(values, channels, num_channels)
        if weights is not None:
            weights, _ = segments.grouped(weights, channels, num_channels)
        found = self.observe_segments(statistic, values, starts, weights=weights)
        return None if found is None else (found, np.diff(starts))

    def observe_segments(
        self,
        statistic: type[StatisticT],
        values: np.ndarray,
        starts: np.ndarray,
        *,
        weights: np.ndarray | None = None,
    ) -> StatisticT | None:
        found: Statistic | None = None
        if statistic is Moments:
            parts = segments.moments(values, starts, weights)
            found = None if parts is None else Moments(parts)
        elif statistic is Extrema and weights is None:
            found = Extrema(*segments.extrema(values, starts))
        return cast("StatisticT | None", found)

    def rescale(
        self,
        x: np.ndarray,
        affine: Affine,
        *,
        clip: tuple[float, float] | None = None,
        activation: str | None = None,
        mask: np.ndarray | None = None,
        out: np.ndarray | None = None,
        refuse_infinite: bool = False,
    ) -> np.ndarray:
        relu = activation is not None and is_relu(activation)
        known = affine.backend_cache
        out, infinite, made = self._rescale(
            x, affine.coefficients(x.shape[1]), out, clip, relu, mask, refuse_infinite, known
        )
        if made is not known:
            affine.cache(made)
        if infinite:
            raise InfiniteInput("the input contains infinity")
        return out

    def rescale_where(
        self,
        x: np.ndarray,
        affine: Affine,
        where: np.ndarray,
        *,
        clip: tuple[float, float] | None = None,
        out: np.ndarray | None = None,
        refuse_infinite: bool = False,
    ) -> np.ndarray:
        known = affine.backend_cache
        y, infinite, made = self._kernels.rescale_where(
            x, affine.coefficients(x.shape[1]), where, out, clip, refuse_infinite, known
        )
        if y is None:
            return super().rescale_where(
                x, affine, where, clip=clip, out=out, refuse_infinite=refuse_infinite
            )
        if made is not known:
            affine.cache(made)
        if infinite:
            raise InfiniteInput("the input contains infinity")
        found: np.ndarray = y
        return found

    def backward_reduce(
        self,
        dy: np.ndarray,
        x: np.ndarray,
        mean: np.ndarray,
        *,
        relu_mask: Affine | None = None,
        mask: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        vectors = _vectors(x.shape[1], relu_mask, mean)
        sum_dy, sum_dy_xmu = self._kernels.backward_reduce(
            dy, x, vectors, relu_mask is not None, mask
        )
        return sum_dy, sum_dy_xmu

    def backward_elemt(
        self,
        dy: np.ndarray,
        x: np.ndarray,
        mean: np.ndarray,
        a: np.ndarray,
        b: np.ndarray,
        d: np.ndarray,
        *,
        relu_mask: Affine | None = None,
        mask: np.ndarray | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        vectors = _vectors(x.shape[1], relu_mask, mean, a, b, d)
        return self._kernels.backward_elemt(dy, x, vectors, relu_mask is not None, mask, out)

    def normalize(
        self,
        x: np.ndarray,
        gamma: np.ndarray | float,
        beta: np.ndarray | float,
        eps: float,
        *,
        activation: str | None = None,
        mask: np.ndarray | None = None,
        out: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Moments]:
        relu = is_relu(activation)
        y, parts = self._kernels.normalize(x, gamma, beta, eps, relu, mask, out)
        return y, Moments(parts)

    def normalize_backward(
        self,
        dy: np.ndarray,
        x: np.ndarray,
        moments: Moments,
        gamma: np.ndarray | float,
        beta: np.ndarray | float,
        eps: float,
        *,
        training: bool = True,
        activation: str | None = None,
        mask: np.ndarray | None = None,
        out: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        relu = is_relu(activation)
        gradients: tuple[np.ndarray, np.ndarray, np.ndarray] = self._kernels.normalize_backward(
            dy, x, moments.parts, gamma, beta, eps, training, relu, mask, out
        )
        return gradients

    def normalize_rows(
        self,
        x: np.ndarray,
        gamma: np.ndarray | float,
        beta: np.ndarray | float,
        eps: float,
        *,
        centered: bool = True,
        out: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Moments]:
        if out is None:
            out = np.empty_like(x, dtype=result_dtype(x), subok=False)
        gamma, beta = along_rows(gamma, x), along_rows(beta, x)
        states = self._kernels.normalize_rows(x, gamma, beta, out, eps, centered)
        return out, Moments(states)

    def normalize_rows_backward(
        self,
        dy: np.ndarray,
        x: np.ndarray,
        moments: Moments,
        gamma: np.ndarray | float,
        eps: float,
        *,
        centered: bool = True,
        out: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if out is None:
            out = np.empty_like(x, dtype=result_dtype(x), subok=False)
        gamma = along_rows(gamma, x)
        states = np.ascontiguousarray(moments.parts, dtype=np.float64)
        dgamma, dbeta = self._kernels.normalize_rows_backward(
            dy, x, states, gamma, out, eps, centered
        )
        return out, dgamma, dbeta


def _from_host(array: Array) -> np.ndarray:
    """View an array of another library that lies in host memory."""
    detached = getattr(array, "detach", None)  # a tensor that records gradients refuses DLPack
    if detached is not None:
        array = detached()
    try:
        return host_view(array)
    except (AttributeError, BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(
            f"cannot view {type(array).__module__}.{type(array).__qualname__} as a NumPy array: "
            f"{error}"
        ) from error


def _vectors(num_channels: int, relu: Affine | None, *rows: np.ndarray | float) -> np.ndarray:
    """Return rows of what the backward kernels know of each channel: mean, a, b, d, the map under a
    ReLU.
    """
    vectors = np.zeros((8, num_channels))
    for row, values in zip(vectors, rows, strict=False):
        row[...] = values
    if relu is not None:
        vectors[4:] = relu.coefficients(num_channels)
    return vectors


def along_rows(vector: np.ndarray | float, x: np.ndarray) -> np.ndarray:
    """Return a number or a vector as a vector over columns."""
    if type(vector) is np.ndarray and vector.dtype == np.float64 and vector.shape == x.shape[1:]:
        return vector
    return np.broadcast_to(np.asarray(vector, dtype=np.float64), x.shape[1:])
