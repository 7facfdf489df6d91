"""Fitted scalers as values that files hold, and back; what states the impossible is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from normcore.saving.parameter_values import from_json, same_value, to_json
from normcore.saving.scaler_file import registered_name
from normcore.scaling.estimator import not_fitted_error
from normcore.scaling.feature_axes import FeatureAxes, is_columns

if TYPE_CHECKING:
    from normcore.scaling.scaler import Scaler
    from normcore.statistics import Statistic

__all__ = ["described", "restored", "restored_features"]

ScalerT = TypeVar("ScalerT", bound="Scaler")

# Rows and features are counted in 64 bits.
_MOST = 2**63 - 1


def described(scaler: Scaler) -> dict[str, object]:
    """Return a fitted scaler as JSON-able values and float64 arrays."""
    if not scaler.__sklearn_is_fitted__():
        raise not_fitted_error(scaler)
    attributes = scaler._assigned_values()
    if attributes:
        getattr(scaler, "_affine", None)  # which takes the parameters of now
    cls = type(scaler)
    params = scaler.get_params(deep=False)
    learned = scaler.__dict__.get("_params", params)  # none where attributes alone are known
    for name in params.keys() - scaler.immediate:
        if not same_value(params[name], learned[name]):
            raise ValueError(
                f"{name} was {learned[name]!r} when this {cls.__name__} was fitted and is "
                f"{params[name]!r} now; fit it again before saving it"
            )
    names = getattr(scaler, "feature_names_in_", None)
    if names is not None and len(names) != scaler.n_features_in_:
        raise ValueError(
            f"feature_names_in_ has {len(names)} names, but n_features_in_ is "
            f"{scaler.n_features_in_}"
        )
    for name in () if names is None else names:
        try:
            str(name).encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"the feature name {name!r} cannot be saved: a lone surrogate is no Unicode"
            ) from None
    description: dict[str, object] = {
        "scaler": registered_name(cls),
        "class": f"{cls.__module__}:{cls.__qualname__}",
        "params": {name: _in_json(f"{cls.__name__}.{name}", each) for name, each in params.items()},
        "statistic": None,
        "n_features_in": scaler.n_features_in_,
        "feature_names_in": None if names is None else list(names),
        "n_samples_seen": scaler._num_rows,
    }
    if scaler._statistic is not None and "n_features_in_" not in scaler._assigned:
        state = {
            name: np.array(each) if isinstance(each, np.ndarray) else each
            for name, each in scaler._statistic.to_state().items()
        }
        description["statistic"] = {"name": scaler._statistic.name, **state}
    features = scaler.__dict__.get("_features")
    if features is not None:
        description["features"] = features.to_dict()
    if attributes:
        description["attributes"] = attributes
    return description


def restored(cls: type[ScalerT], saved: Mapping[str, Any]) -> ScalerT:
    """Return the fitted scaler of a description.

    Raises
    ------
    ValueError
        If it is of another class, incomplete, or states what no scaler can have learned.
    """
    try:
        params, state, num_rows = saved["params"], saved["statistic"], saved["n_samples_seen"]
        num_features, names = restored_features(saved)
    except KeyError as error:
        raise ValueError(f"the saved {cls.__name__} lacks {error}") from None
    if num_rows is not None:
        num_rows = _count("n_samples_seen", num_rows)
    attributes = saved.get("attributes") or {}
    if not isinstance(params, dict) or not isinstance(attributes, dict):
        raise ValueError("params and attributes must be objects")
    try:
        scaler = cls(**{name: from_json(value) for name, value in params.items()})
    except TypeError as error:
        raise ValueError(f"the saved parameters do not fit {cls.__name__}: {error}") from None
    scaler._check_parameters()
    features = None
    if not is_columns(scaler.axis):
        features = FeatureAxes.from_dict(scaler.axis, saved.get("features"))
        if features.size != num_features:
            raise ValueError(
                f"the saved sizes {features.shape} are not those of {num_features} features"
            )
    if state is None and attributes:
        if features is not None:
            scaler._features, scaler._shaped = features, frozenset(scaler.coefficients)
        scaler.n_features_in_ = num_features
        if names is not None:
            scaler.feature_names_in_ = np.asarray(names, dtype=object)
        if num_rows is not None:
            scaler._num_rows = scaler.n_samples_seen_ = num_rows
    else:
        statistic = _statistic(scaler, state, num_features)
        scaler._learn(statistic, num_rows, num_features, names, features)
    _assign(scaler, attributes)
    return scaler


def restored_features(saved: Mapping[str, Any]) -> tuple[int, list[str] | None]:
    """Return how many features a description is of, and their names.

    Raises
    ------
    KeyError
        If it lacks them.
    ValueError
        If they are none that can have been saved.
    """
    names = saved["feature_names_in"]
    num_features = _count("n_features_in", saved["n_features_in"])
    if names is not None:
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise ValueError(f"feature_names_in must be a list of names, not {names!r:.60}")
        if len(names) != num_features:
            raise ValueError(f"{len(names)} names are saved for {num_features} features")
    return num_features, names


def _in_json(name: str, value: object) -> object:
    try:
        return to_json(name, value)
    except RecursionError:
        raise TypeError(
            f"parameter {name} cannot be saved: it holds itself, or is nested too deeply"
        ) from None


def _count(name: str, value: object) -> int:
    if type(value) is not int or not 0 < value <= _MOST:
        raise ValueError(f"{name} must be a positive integer, not {value!r:.60}")
    return value


def _statistic(scaler: Scaler, state: Any, num_features: int) -> Statistic | None:
    """Return the statistic of a saved state, where it can be one of such a scaler."""
    cls = type(scaler).statistic
    if state is not None and not isinstance(state, dict):
        raise ValueError(f"the statistic must be an object, not {state!r:.60}")
    name = None if state is None else state.get("name")
    expected = None if cls is None else cls.name
    if name != expected:
        raise ValueError(f"the saved statistic is {name!r:.60}, not {expected!r}")
    if cls is None or state is None:
        return None
    arrays = {key: value for key, value in state.items() if key != "name"}
    statistic = cls.from_state(arrays)
    unknown = sorted(arrays.keys() - statistic.to_state().keys())
    if unknown:
        raise ValueError(f"the statistic has no {unknown[0]!r:.60}, or lacks what belongs to it")
    if statistic.num_channels != num_features:
        raise ValueError(
            f"the saved statistic has {statistic.num_channels} features, not {num_features}"
        )
    statistic.check_finite()
    scaler._check_statistic(statistic)
    return statistic


def _assign(scaler: Scaler, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        if name not in scaler.coefficients and name not in scaler._learned:
            raise ValueError(f"{type(scaler).__name__} has no fitted attribute {name!r}")
        alone = name not in scaler.coefficients or scaler._shape_of_coefficients() == ()
        number = type(value) in (int, float) and alone
        if not (value is None or isinstance(value, np.ndarray) or number):
            raise ValueError(f"{name} must hold numbers, not {value!r:.60}")
        setattr(scaler, name, value)
    if not scaler.__sklearn_is_fitted__():
        raise ValueError(f"the saved attributes ({', '.join(attributes)}) are not all it needs")
    if attributes:
        getattr(scaler, "_affine", None)  # it must be a map
