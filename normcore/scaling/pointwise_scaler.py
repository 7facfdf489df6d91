"""PointwiseScaler, the base of scalers that map each value by a function and its inverse."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from normcore import registration
from normcore.array_backend import over_views
from normcore.array_backend.abstract import Backend, InfiniteInput
from normcore.array_backend.selection import select_backend
from normcore.layout import out_argument
from normcore.layout.namespace import Array, array_namespace, is_on_host, is_strided
from normcore.scaling import contracts, input_validation
from normcore.scaling.scaler import Scaler
from normcore.statistics import Statistic, wide_integers
from normcore.threads.for_each import for_each

__all__ = ["PointwiseScaler"]

# Elements of a block: what a map holds of it beside the data, for each thread, stays in a cache. On
# a device a block is enough work for all of it.
BLOCK, _DEVICE_BLOCK = 1 << 15, 1 << 22


class PointwiseScaler(Scaler):
    """Base of scalers that map each value by a function with an inverse.

    A subclass gives :meth:`forward` and :meth:`inverse` in terms of the array-API namespace
    ``xp``. It may name a :attr:`statistic` too, and take what they need from it in
    :meth:`prepare`. Values are float64 within, rounded once to the dtype of the input.

    NumPy arrays are mapped in blocks of rows, in several threads: what becomes of a value must
    not depend on the values beside it.

    A compiled form of the map, registered as ``registry.kernel(name, target, backend=...)`` under
    the name :attr:`kernel`, is called in its place for arrays of that backend, that of the inverse
    under the name with ``"_inverse"``. Its signature is ``kernel(x, *arguments)``: a float64 array
    (n, n_features) of the backend's own kind, with any strides and not to be written into, and
    :meth:`kernel_arguments`. It returns a new float64 array of that shape. In NumPy it is called
    with blocks of rows, in several threads at once.

    Parameters
    ----------
    copy, backend, axis
        As for :class:`normcore.StandardScaler`.

    Examples
    --------
    >>> import normcore as nc
    >>> class LogScaler(nc.PointwiseScaler):
    ...     def forward(self, xp, x):
    ...         return xp.log1p(x)
    ...
    ...     def inverse(self, xp, y):
    ...         return xp.expm1(y)
    >>> scaler = LogScaler().fit([[0.0], [3.0]])
    >>> scaler.inverse_transform(scaler.transform([[3.0]])).round(12)
    array([[3.]])
    """

    __module__ = "normcore"

    #: The name under which compiled forms of the map are registered; without one there are none.
    kernel: ClassVar[str] = ""

    @abstractmethod
    def forward(self, xp: ModuleType, x: Array) -> Array:
        """Return the map of ``x``.

        Parameters
        ----------
        xp : namespace
            NumPy, or the array-API namespace of ``x``.
        x : float64 array of shape (n, n_features)
            Some rows. To be read, not written; called in several threads at once.
        """

    @abstractmethod
    def inverse(self, xp: ModuleType, x: Array) -> Array:
        """Return what :meth:`forward` maps to ``x``.

        Parameters
        ----------
        xp, x
            As for :meth:`forward`.
        """

    def kernel_arguments(self) -> tuple[Any, ...]:
        """Return what kernels take after ``x``; asked for once a call, not for each block."""
        return ()

    def prepare(self, statistic: Any) -> None:
        """Set fitted attributes from the statistic, in NumPy.

        Parameters
        ----------
        statistic : Statistic
            Of the kind :attr:`statistic`: what was observed of each feature, in NumPy; None
            where the scaler names none.
        """

    def check_domain(self, xp: ModuleType, x: Array, inverse: bool) -> None:
        """Raise ValueError for values that the map does not take; by default it takes all.

        Called as :meth:`forward`, or :meth:`inverse`, is, before anything is overwritten.

        Parameters
        ----------
        xp, x
            As for :meth:`forward`.
        inverse : bool
            Whether :meth:`inverse` is to be called, not :meth:`forward`.
        """

    def _prepare(self, statistic: Statistic | None) -> None:
        contracts.prepare(self, statistic)

    def _check_digits(self, x: Array) -> None:
        """Refuse integers that are too close together for float64, of any map."""
        if not (wide_integers.is_64_bit(x) and is_on_host(x)):
            return
        backend = select_backend(x, self.backend)
        extrema = over_views.observe(wide_integers.exactly(backend.extrema, x), x, 1).to_host()
        names = getattr(self, "feature_names_in_", None)
        magnitude = np.maximum(np.abs(extrema.min), np.abs(extrema.max))
        wide_integers.refuse_rounded(
            x, 1, magnitude, extrema.max - extrema.min,
            lambda column: input_validation.column_label(column, names),
        )  # fmt: skip

    def _map(
        self, backend: Backend, x: Array, out: Array, inverse: bool, where: Array = None
    ) -> Array:
        if out is not None:
            out_argument.check_out(out, x)
        xp = array_namespace(x)
        function = self._compiled(backend, x, inverse)
        if function is None:
            function = partial(contracts.pointwise_map(self, inverse), xp)

        on_host = isinstance(x, np.ndarray)
        size = BLOCK if on_host else _DEVICE_BLOCK
        sliced = on_host or (is_strided(x) and (out is None or not out_argument.overlap(out, x)))
        if where is None and (not sliced or math.prod(x.shape) <= size):
            return _stored(function(self._checked(xp, x, inverse)), x, out)
        if out is None:
            out = out_argument.result_like(x)
        elif out_argument.may_overlap(x, out):
            out_argument.refuse_partial_overlap(out, x)

            def check(rows: slice) -> None:
                self._checked(xp, _shown(x, where, rows), inverse)

            _for_blocks(check, x.shape, size, on_host)  # before anything is overwritten
        target = out

        def write(rows: slice) -> None:
            result = function(self._checked(xp, _shown(x, where, rows), inverse))
            if where is None:
                target[rows, :] = result
            else:
                target[rows, :] = x[rows, :]  # bit for bit
                np.copyto(target[rows, :], result, where=where[rows, :], casting="same_kind")

        _for_blocks(write, x.shape, size, on_host)
        return out

    def _compiled(
        self, backend: Backend, x: Array, inverse: bool
    ) -> Callable[[Array], Array] | None:
        """Return the compiled form of the map for a backend; None where there is none.

        Arrays of NumPy are those of the CPU's, whichever backend is asked for, but for the
        reference: it is what kernels are compared with.
        """
        if not self.kernel:
            return None
        name = f"{self.kernel}_inverse" if inverse else self.kernel
        owner = backend.name
        found = registration.kernel(name, owner)
        if found is None and isinstance(x, np.ndarray) and owner != "reference":
            owner = "cpu"
            found = registration.kernel(name, owner)
        return None if found is None else contracts.compiled_map(self, name, owner, found)

    def _map_where(
        self, backend: Backend, x: Array, where: Array, out: Array, inverse: bool
    ) -> Array:
        if isinstance(x, np.ndarray) and x.ndim == 2:
            return self._map(backend, x, out, inverse, where)
        return super()._map_where(backend, x, where, out, inverse)

    def _checked(self, xp: ModuleType, x: Array, inverse: bool) -> Array:
        """Return ``x`` in float64, without infinities, and in the domain of the map."""
        if input_validation.first_infinity(x, xp) is not None:
            raise InfiniteInput
        if x.dtype != xp.float64:
            x = x.astype(np.float64) if isinstance(x, np.ndarray) else xp.astype(x, xp.float64)
        elif isinstance(x, np.ndarray):
            x = x.view()
            x.flags.writeable = False  # it is the user's, and a map could be careless
        self.check_domain(xp, x, inverse)
        return x


def _shown(x: Array, where: Array, rows: slice) -> Array:
    """Return some rows of a table, with NaN for what a mask of NumPy's, if there is one, hides."""
    given = x[rows, :]
    return given if where is None else np.where(where[rows, :], given, math.nan)


def _stored(result: Array, x: Array, out: Array) -> Array:
    """Return the map of ``x`` in its dtype, in ``out`` where given."""
    if out is not None:
        out[...] = result
        return out
    dtype = out_argument.result_dtype(x)
    if result.dtype == dtype:
        return result
    if isinstance(result, np.ndarray):
        return result.astype(dtype)
    return array_namespace(x).astype(result, dtype)


def _for_blocks(
    visit: Callable[[slice], object], shape: tuple[int, ...], size: int, in_threads: bool
) -> None:
    """Call ``visit`` with slices that cover the rows of a table, in some threads if so asked."""
    step = max(1, size // shape[1])

    def block(index: int) -> None:
        visit(slice(index * step, min((index + 1) * step, shape[0])))

    for_each(block, -(-shape[0] // step), in_threads=in_threads)
