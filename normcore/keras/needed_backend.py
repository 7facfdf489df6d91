"""An import of Keras that fails for want of its backend, said in terms of what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["needed_backend"]


@contextmanager
def needed_backend() -> Iterator[None]:
    """Say how another backend is chosen; Keras takes TensorFlow unless it is told.

    Raises
    ------
    ModuleNotFoundError
    """
    try:
        yield
    except ModuleNotFoundError as error:
        backend, _, _ = (error.name or "").partition(".")
        if backend not in ("jax", "tensorflow", "torch"):
            raise
        raise ModuleNotFoundError(
            f"Keras's backend {backend} is not installed; another is chosen by "
            "KERAS_BACKEND=torch or KERAS_BACKEND=jax before Keras is imported: pip install torch, "
            "or jax",
            name=backend,
        ) from error
