"""Scaler, what every scaler shares: it learns, transforms and is saved."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Self

from normcore.array_backend.abstract import Backend
from normcore.saving.scaler_file import save_scaler
from normcore.scaling import fitted_description
from normcore.scaling.feature_axes import (
    COLUMNS,
    Axis,
)
from normcore.scaling.learning import Learning
from normcore.scaling.transforming import Transforming

__all__ = ["Scaler"]


class Scaler(Learning, Transforming):
    """A statistic of each feature, and a map of each value that depends on it."""

    #: Defaults of the parameters that every scaler has, for those that do not list them.
    copy: bool = True
    backend: str | Backend | None = None

    def __init__(
        self,
        *,
        copy: bool = True,
        backend: str | Backend | None = None,
        axis: Axis = COLUMNS,
    ) -> None:
        self.copy = copy
        self.backend = backend
        self.axis = axis

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the fitted scaler as one versioned JSON file; :func:`normcore.load` reads it.

        Raises
        ------
        NotFittedError
            If the scaler is not fitted.
        ValueError
            If its class is not registered under a name, or its parameters are no longer those
            it was fitted with.
        TypeError
            If a parameter has no form in JSON.
        """
        save_scaler(self, path)

    def to_dict(self) -> dict[str, object]:
        """Return the fitted scaler as JSON-able values and float64 arrays; see :meth:`save`."""
        return fitted_description.described(self)

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """Return the fitted scaler that :meth:`to_dict` described.

        Raises
        ------
        ValueError
            If the description is of another class, or incomplete.
        """
        return fitted_description.restored(cls, saved)
