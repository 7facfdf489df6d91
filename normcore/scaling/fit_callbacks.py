"""The callbacks of scikit-learn 1.9, called in fit as its own estimators call them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import ModuleType

from normcore.layout.namespace import Array

__all__ = ["learn_as_task", "set_callbacks"]


def set_callbacks(estimator: object, callbacks: tuple[object, ...]) -> None:
    """Set the callbacks of an estimator; none takes them away.

    Raises
    ------
    ImportError
        If scikit-learn is missing or has no callbacks yet.
    TypeError
        If one is no instance that follows scikit-learn's protocol.
    """
    _support().CallbackSupportMixin.set_callbacks(estimator, *callbacks)


def learn_as_task(
    estimator: object,
    learn: Callable[[], object],
    X: Array,
    y: Array,
    metadata: Mapping[str, object],
) -> None:
    """Learn between the hooks of the callbacks, where the estimator or its parent has any.

    Parameters
    ----------
    estimator : Estimator
    learn : callable
        Fits the estimator.
    X, y, metadata
        What hooks are told of the data.
    """
    attributes = vars(estimator)
    if "_skl_callbacks" not in attributes and "_parent_callback_ctx" not in attributes:
        learn()
        return
    support = _support()

    def task(estimator: object) -> None:
        context = support.CallbackSupportMixin._init_callback_context(estimator)
        told = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        context.call_on_fit_task_begin(**told)
        learn()
        context.call_on_fit_task_end(**told, reconstruction_attributes={})

    support.with_callbacks(task)(estimator)  # which tears them down at last


def _support() -> ModuleType:
    try:
        return importlib.import_module("sklearn.callback")
    except ImportError as error:
        raise ImportError("callbacks need scikit-learn 1.9 or newer") from error
