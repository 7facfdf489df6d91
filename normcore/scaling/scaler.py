"""Scaler, what every scaler shares: it learns, transforms and is saved."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from normcore.array_backend.abstract import Backend
from normcore.registration.exporting import Exporting
from normcore.saving.scaler_file import save_scaler
from normcore.scaling import fitted_description
from normcore.scaling.feature_axes import (
    COLUMNS,
    Axis,
)
from normcore.scaling.learning import Learning
from normcore.scaling.transforming import Transforming

__all__ = ["Scaler"]


class Scaler(Exporting, Learning, Transforming):
    """A statistic of each feature, and a map of each value that depends on it."""

    #: scikit-learn's class that does the same, as "sklearn.preprocessing.StandardScaler". A class
    #: that names one has :meth:`from_sklearn` and :meth:`sklearn_attributes`.
    sklearn_class: ClassVar[str | None] = None

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

        Parameters
        ----------
        path : str or PathLike
            The file, which is replaced if there is one: as a whole, or not at all.

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

        Parameters
        ----------
        saved : mapping
            What :meth:`to_dict` returned, arrays also as lists.

        Raises
        ------
        ValueError
            If the description is of another class, or incomplete.
        """
        return fitted_description.restored(cls, saved)

    @classmethod
    def from_sklearn(cls, estimator: Any, **params: Any) -> Self:
        """Return a scaler of what a fitted estimator of :attr:`sklearn_class` has learned.

        Parameters
        ----------
        estimator : estimator
            Fitted, of that very class.
        **params
            Its parameters, as far as the scaler has them.
        """
        raise NotImplementedError(f"{cls.__name__} has no counterpart in scikit-learn")

    def sklearn_attributes(self) -> Mapping[str, Any]:
        """Return the fitted attributes of a :attr:`sklearn_class` that transforms as this does."""
        raise NotImplementedError(f"{type(self).__name__} has no counterpart in scikit-learn")
