"""What the methods that a scaler's author writes return, checked where it is first used.

An error names the class, the method and the plugin that they came with. What such a method is given
of the caller's data is read-only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from normcore import registration
from normcore.affine import COEFFICIENTS, Affine
from normcore.array_backend.abstract import Backend
from normcore.layout.namespace import Array
from normcore.scaling.input_validation import column_label
from normcore.statistics import Extrema, Moments, Statistic
from normcore.statistics.declared import (
    Blame,
    broken,
    called,
    check_neutral,
    described,
    lock,
    numbers_of,
    owner_of,
)

if TYPE_CHECKING:
    from normcore.scaling.affine_scaler import AffineScaler
    from normcore.scaling.learning import Learning
    from normcore.scaling.pointwise_scaler import PointwiseScaler

__all__ = [
    "affine_of",
    "bounds_of",
    "check_statistic",
    "compiled_map",
    "observer",
    "pointwise_map",
    "prepare",
]

# The square of a value that is smaller is far from overflow.
_LARGE = 1e150


def affine_of(scaler: AffineScaler, statistic: Statistic | None) -> Affine:
    """Return the map that a scaler makes of a statistic.

    Raises
    ------
    TypeError, ValueError
        If it is no :class:`normcore.Affine` of real numbers, one for all features or one for each,
        or if a feature that has values gets a coefficient that is NaN or, but for the scale,
        infinite.
    """
    lock(statistic)
    affine: object = called(partial(_broken, scaler, "affine"), scaler.affine, statistic)
    must = "must return normcore.Affine"
    if not isinstance(affine, Affine):
        raise TypeError(_broken(scaler, "affine", f"{must}, not {described(affine)}"))
    num_features = scaler.n_features_in_
    for name in (*COEFFICIENTS, "center_low"):
        value = getattr(affine, name)
        numbers = numbers_of(0.0 if value is None else value)
        if numbers is None:
            reason = f"{must} of real numbers, but its {name} is {described(value)}"
            raise TypeError(_broken(scaler, "affine", reason))
        if numbers.shape not in ((), (num_features,)):
            reason = (
                f"{must} with one number for all features or one for each of the {num_features}, "
                f"but its {name} has shape {numbers.shape}"
            )
            raise ValueError(_broken(scaler, "affine", reason))
        if not np.isfinite(numbers).all():
            _refuse_not_finite(scaler, statistic, name, numbers)
    bounds_of(scaler)
    return affine


def bounds_of(scaler: AffineScaler) -> tuple[float, float] | None:
    """Return what a scaler clips its results to.

    Raises
    ------
    TypeError, ValueError
        If that is neither None nor two numbers, the lower one first.
    """
    bounds: tuple[float, float] | None = called(partial(_broken, scaler, "bounds"), scaler.bounds)
    if bounds is None:
        return None
    must = "must return None, or the lower and the upper bound"
    try:
        low, high = (float(each) for each in bounds)
    except (TypeError, ValueError):
        raise TypeError(_broken(scaler, "bounds", f"{must}, not {bounds!r}")) from None
    if not low <= high:
        raise ValueError(_broken(scaler, "bounds", f"{must}, not {bounds!r}"))
    return bounds


def check_statistic(scaler: Learning) -> None:
    """Refuse a scaler whose ``statistic`` is no class of one, or one that keeps nothing.

    Raises
    ------
    TypeError
        Naming the class that says so.
    """
    kind: object = scaler.statistic
    if kind is None or kind in (Moments, Extrema):
        return
    if not (isinstance(kind, type) and issubclass(kind, Statistic)):
        reason = "must be a class that derives from normcore.Statistic"
        raise TypeError(_broken(scaler, "statistic", f"{reason}, not {kind!r:.60}"))
    if owner_of(kind, "empty") is Statistic:
        check_neutral(kind, lambda name: hasattr(Statistic, name))


def observer(scaler: Learning, backend: Backend) -> Callable[..., Statistic]:
    """Return a scaler's ``observe`` on a backend: what it returns is the statistic of the view."""
    observe = partial(scaler.observe, backend)
    blame = partial(_broken, scaler, "observe")
    if scaler._observes_values:
        kind = scaler.statistic
        assert kind is not None
        if kind in (Moments, Extrema) or owner_of(kind, "observe") is Statistic:
            return observe  # which checks its of_rows
        blame = partial(broken, kind, "observe")

    def checked(x: Array, *, weights: Array = None) -> Statistic:
        statistic: object = called(blame, observe, _read_only(x), weights=weights)
        must = "must return a normcore.Statistic"
        if not isinstance(statistic, Statistic):
            raise TypeError(blame(f"{must}, not {described(statistic)}"))
        if statistic.num_channels != x.shape[1]:
            reason = f"{must} of {x.shape[1]} channels, not of {statistic.num_channels}"
            raise ValueError(blame(reason))
        return statistic

    return checked


def prepare(scaler: PointwiseScaler, statistic: Statistic | None) -> None:
    """Let a scaler set its fitted attributes.

    Raises
    ------
    TypeError
        If it returns them instead.
    """
    lock(statistic)
    returned: object = called(partial(_broken, scaler, "prepare"), scaler.prepare, statistic)
    if returned is not None:
        reason = f"must set fitted attributes and return None, not {described(returned)}"
        raise TypeError(_broken(scaler, "prepare", reason))


def pointwise_map(scaler: PointwiseScaler, inverse: bool) -> Callable[[ModuleType, Array], Array]:
    """Return the ``forward`` or ``inverse`` of a scaler, of which every result is checked.

    It is an array of its own, of the library, shape and dtype of what was mapped.
    """
    method = "inverse" if inverse else "forward"
    function: Callable[[ModuleType, Array], Array] = getattr(scaler, method)
    blame = partial(_broken, scaler, method)
    return lambda xp, x: _own_result(blame, called(blame, function, xp, x), x)


def compiled_map(
    scaler: PointwiseScaler, name: str, backend: str, kernel: Callable[..., Array]
) -> Callable[[Array], Array]:
    """Return the registered form of a scaler's map, of which every result is checked.

    An error names the kernel and the plugin that registered it.
    """
    arguments: object = scaler.kernel_arguments()
    if not isinstance(arguments, tuple):
        reason = f"must return a tuple of what kernels take after x, not {described(arguments)}"
        raise TypeError(_broken(scaler, "kernel_arguments", reason))

    def blame(reason: str) -> str:
        whose = registration.kernel_origin(name, backend)
        return f"kernel {name!r} of {type(scaler).__name__} {reason} ({whose})"

    return lambda x: _own_result(blame, called(blame, kernel, x, *arguments), x)


def _own_result(blame: Blame, y: Array, x: Array) -> Array:
    """Return what a map made of ``x``: an array of its own, of the same kind, shape and dtype."""
    if type(y) is np.ndarray and type(x) is np.ndarray:
        of_kind = True
    else:
        of_kind = isinstance(y, np.ndarray if isinstance(x, np.ndarray) else type(x))
        of_kind = of_kind and not isinstance(y, np.ma.MaskedArray)
    if not of_kind or y.shape != x.shape or y.dtype != x.dtype:
        error = ValueError if of_kind and y.dtype == x.dtype else TypeError
        raise error(blame(f"must return {described(x)}, as it was given, not {described(y)}"))
    if isinstance(y, np.ndarray) and np.may_share_memory(y, x):
        return y.copy()
    return y


def _refuse_not_finite(
    scaler: AffineScaler, statistic: Statistic | None, name: str, numbers: np.ndarray
) -> None:
    """Refuse NaN where a feature has values, and infinity that no finite data explain."""
    count = getattr(statistic, "count", None)
    # A statistic without a count may hold features without values.
    refused = np.isnan(numbers) & (False if count is None else np.asarray(count) > 0)
    if statistic is None:
        refused = np.isnan(numbers)
    infinite = np.isinf(numbers)
    if name == "scale":  # one of too wide a spread is refused as such, with what to do
        infinite = infinite & ~_may_overflow(statistic, scaler.n_features_in_)
    refused = refused | infinite
    if np.any(refused):
        place = int(np.flatnonzero(refused)[0])
        label = column_label(place, getattr(scaler, "feature_names_in_", None))
        value = numbers if numbers.ndim == 0 else numbers[place]
        has = ", which has values" if np.isnan(value) else ""
        reason = f"must return finite coefficients: {name} is {value} in {label}{has}"
        raise ValueError(_broken(scaler, "affine", reason))


def _may_overflow(statistic: Statistic | None, num_features: int) -> np.ndarray:
    """Whether each feature was seen to hold values of which a spread may be infinite."""
    large = np.zeros(num_features, dtype=bool)
    if statistic is None:
        return large
    if isinstance(statistic, Moments):  # whose state is scaled
        seen = [statistic.mean, statistic.var()]
    else:
        seen = list(statistic.to_state().values())
    for array in seen:
        found = ~(np.abs(array) < _LARGE) & ~np.isnan(array)
        if array.ndim and array.shape[-1] == num_features:
            large |= found.reshape(-1, num_features).any(axis=0)
        else:
            large |= found.any()
    return large


def _broken(scaler: object, method: str, reason: str) -> str:
    return broken(type(scaler), method, reason)


def _read_only(x: Array) -> Array:
    if not isinstance(x, np.ndarray):
        return x
    x = x.view()
    x.flags.writeable = False
    return x
