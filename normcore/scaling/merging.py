"""What scalers learn of pieces of the data, merged: where that is possible, and only there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, ClassVar, Protocol, Self, TypeVar

from normcore.saving.parameter_values import same_value
from normcore.scaling import input_validation
from normcore.scaling.any_axes import AnyAxes
from normcore.scaling.estimator import not_fitted_error
from normcore.scaling.feature_axes import FeatureAxes
from normcore.scaling.fitted_attributes import FittedAttributes
from normcore.scaling.input_validation import Names
from normcore.statistics import Statistic

__all__ = ["EXECUTION", "Merging", "refuse_overflow", "where_mergeable"]

# Parameters that say how to compute, not what: scalers that differ in them alone can merge.
EXECUTION = frozenset({"backend", "copy"})

MethodT = TypeVar("MethodT", bound=Callable[..., object])


class _Owner(Protocol):
    def _why_unmergeable(self) -> str | None: ...


class _WhereMergeable:
    """Descriptor of a method that a scaler lacks where it cannot go on from what it learned.

    As in scikit-learn, ``hasattr`` then tells who streams.
    """

    def __init__(self, method: Callable[..., object]) -> None:
        self.method = method
        self.__doc__ = method.__doc__

    def __get__(self, instance: _Owner | None, owner: type) -> Callable[..., object]:
        if instance is None:
            return self.method
        reason = instance._why_unmergeable()
        if reason is not None:
            name = self.method.__name__
            raise AttributeError(f"{owner.__name__} has no {name}: {reason}", name=name)
        return MethodType(self.method, instance)


if TYPE_CHECKING:

    def where_mergeable(method: MethodT) -> MethodT:
        """Make a method one that only scalers have which can go on from what they learned."""
        return method

else:
    where_mergeable = _WhereMergeable


class Merging(FittedAttributes, AnyAxes, ABC):
    """A scaler, as far as it joins what was learned of pieces of the data."""

    #: Whether statistics of pieces merge at all. Where not, there is no ``partial_fit``, ``merge``
    #: refuses, and so do tables in pieces; the columns of a file are held in memory.
    mergeable: ClassVar[bool] = True
    #: Whether ``partial_fit`` on pieces learns what ``fit`` on the whole would: so where statistics
    #: merge without loss. A fit of a file reads batch by batch then; else it holds the columns in
    #: memory, and calls ``fit`` once.
    exact_streaming: ClassVar[bool] = True

    _statistic: Statistic | None = None

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        if cls.__dict__.get("mergeable") is False:
            cls.exact_streaming = False

    @abstractmethod
    def _learn(
        self,
        statistic: Statistic | None,
        num_rows: int | None,
        num_features: int,
        names: Names | None,
        features: FeatureAxes | None = None,
    ) -> Self:
        """Replace all fitted attributes together."""

    def merge(self, other: Self) -> Self:
        """Learn what another scaler has learned, as ``partial_fit`` on its data would.

        Parameters
        ----------
        other : scaler of the same class, fitted
            Stays as it is.

        Raises
        ------
        ValueError
            If the two differ in parameters or features, or cannot merge. The scaler then stays as
            it was.
        TypeError
            If ``other`` is of another class.
        NotFittedError
            If ``other`` is not fitted.
        """
        if type(other) is not type(self):
            raise TypeError(f"cannot merge {type(self).__name__} with {type(other).__name__}")
        if not other.__sklearn_is_fitted__():
            raise not_fitted_error(other)
        mine, theirs = self.get_params(deep=False), other.get_params(deep=False)
        differing = [
            key for key in mine if key not in EXECUTION and not same_value(mine[key], theirs[key])
        ]
        if differing:
            pairs = ", ".join(f"{key}={mine[key]!r} and {theirs[key]!r}" for key in differing)
            raise ValueError(f"cannot merge scalers with other parameters: {pairs}")
        for each in (self, other):
            each._refuse_unobserved("merge")
        if not self.mergeable:
            raise ValueError(f"two fits cannot be merged: {self._why_unmergeable()}")
        names = getattr(other, "feature_names_in_", None)
        statistic, num_rows = other._statistic, other._num_rows or 0
        features = other.__dict__.get("_features")
        if self.__sklearn_is_fitted__():
            input_validation.check_names(
                getattr(self, "feature_names_in_", None), names, type(self).__name__
            )
            self._check_same_axes(features)
            self._check_width(other.n_features_in_)
            names = getattr(self, "feature_names_in_", None)
            statistic, num_rows = self._merged(statistic), num_rows + (self._num_rows or 0)
        return self._learn(statistic, num_rows, other.n_features_in_, names, features)

    def _why_unmergeable(self) -> str | None:
        """Return why nothing can be added to what was learned; None where it can."""
        if self.mergeable:
            return None
        return (
            f"what {type(self).__name__} learns is a function of all the data at once; call fit "
            "with all of it"
        )

    def _merged(self, statistic: Statistic | None) -> Statistic | None:
        mine = self._statistic
        if mine is None or statistic is None:
            return None
        merged = mine.merge(statistic)
        refuse_overflow(merged)
        return merged


def refuse_overflow(statistic: Statistic) -> None:
    """Refuse the statistic of finite data that weights made infinite."""
    try:
        statistic.check_finite()
    except ValueError:
        raise input_validation.too_heavy_error() from None
