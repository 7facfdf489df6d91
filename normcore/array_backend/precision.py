"""In which precision layers compute: exactly, or natively, in the dtype of the data.

The one that the caller names, or else that of the ``with`` block around it. Scalers are always
exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from normcore.array_backend import selection
from normcore.array_backend.abstract import Backend
from normcore.array_backend.whole_calls import WholeCalls
from normcore.layout.namespace import Array
from normcore.layout.scalar_argument import check_choice

__all__ = [
    "PRECISIONS", "check_precision", "in_precision", "resolved", "use_precision", "whole_calls",
]  # fmt: skip

#: Names that an argument may have.
PRECISIONS = ("exact", "native")

_in_context: ContextVar[str] = ContextVar("normcore_precision", default="exact")


@contextmanager
def use_precision(precision: str) -> Iterator[str]:
    """Have layers and their functions compute in one precision in a ``with`` block.

    Those that name a precision of their own are not affected, and neither are scalers. It holds
    for the running thread or asynchronous task; threads started in the block are not included. A
    backward pass has the precision of its forward pass where a layer does both.

    Parameters
    ----------
    precision : {"exact", "native"}
        Statistics without rounding and elements in float64, rounded once at the end; or plain
        float64 sums and elements in the dtype of the data. A backend that has no native kernels,
        for some arrays or at all, computes exactly.

    Raises
    ------
    ValueError
        If it is another.

    Examples
    --------
    >>> import normcore as nc
    >>> import numpy as np
    >>> x = np.arange(6, dtype=np.float32).reshape(3, 2)
    >>> with nc.use_precision("native"):
    ...     y, moments = nc.functional.batch_norm(x)
    >>> y.dtype
    dtype('float32')
    """
    chosen = check_choice("precision", precision, PRECISIONS)
    token = _in_context.set(chosen)
    try:
        yield chosen
    finally:
        _in_context.reset(token)


def check_precision(precision: str | None) -> str | None:
    """Return an argument that names a precision, or None, which stands for the context's.

    Raises
    ------
    ValueError
        If it is another.
    """
    return check_choice("precision", precision, (None, *PRECISIONS))


def resolved(precision: str | None) -> str:
    """Return the precision that an argument names, or that of the context.

    Raises
    ------
    ValueError
        If there is no such precision.
    """
    return (
        _in_context.get() if precision is None else check_choice("precision", precision, PRECISIONS)
    )


def in_precision(backend: Backend, precision: str | None) -> Backend:
    """Return the backend that computes in a precision, or in the context's, for one's arrays.

    Raises
    ------
    ValueError
        If there is no such precision.
    """
    if resolved(precision) == "exact":
        return backend
    return backend.native or backend


def whole_calls(
    array: Array, backend: str | Backend | None, precision: str | None, *options: object
) -> WholeCalls | None:
    """Return the whole calls of the backend for an array, if there are any.

    None too for NumPy's arrays, and where an option is given. Parameters and errors are those of
    :func:`~normcore.array_backend.selection.select_backend` and :func:`in_precision`.
    """
    plain = selection.of_plain_call(array, backend, *options)
    return None if plain is None else in_precision(plain, precision).whole_calls
