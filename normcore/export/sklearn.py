"""Fitted scalers as scikit-learn's estimators, and these as scalers."""

from __future__ import annotations

import inspect
import pickle
from importlib import import_module
from typing import Any

import numpy as np

from normcore import registration
from normcore.export.column_map import column_map
from normcore.scaling.affine_scaler import AffineScaler
from normcore.scaling.estimator import not_fitted_error
from normcore.scaling.feature_axes import is_columns
from normcore.scaling.real_numbers import on_host
from normcore.scaling.scaler import Scaler

__all__ = ["from_sklearn", "to_bytes", "to_sklearn"]


def from_sklearn(estimator: Any) -> Scaler:
    """Return a scaler that has learned what a fitted estimator of scikit-learn has.

    Parameters
    ----------
    estimator : estimator
        Of ``sklearn.preprocessing``: StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler,
        Normalizer, PowerTransformer, QuantileTransformer, or what else a registered scaler names
        as its counterpart.

    Returns
    -------
    Scaler
        Of the same parameters, names of features and ``set_output``. It goes on with
        ``partial_fit`` and ``merge`` where both libraries remember what was observed.

    Raises
    ------
    TypeError
        If there is no scaler for its class; classes derived from one may do more than that.
    NotFittedError
        If it is not fitted.

    Examples
    --------
    >>> import normcore as nc
    >>> from sklearn.preprocessing import StandardScaler
    >>> theirs = StandardScaler().fit([[1.0], [3.0]])
    >>> nc.from_sklearn(theirs).transform([[4.0]])
    array([[2.]])
    """
    module = type(estimator).__module__.partition("._")[0]
    name = f"{module}.{type(estimator).__qualname__}"
    known = {
        each.sklearn_class: each
        for each in registration.scalers().values()
        if issubclass(each, Scaler) and "sklearn_class" in vars(each)
    }
    if isinstance(estimator, type) or name not in known:
        given = f"the class {estimator.__qualname__}" if isinstance(estimator, type) else name
        listed = ", ".join(sorted(str(each).rpartition(".")[2] for each in known))
        raise TypeError(
            f"from_sklearn takes a fitted {listed} of scikit-learn, not {given}; a Pipeline or "
            "ColumnTransformer is converted step by step"
        )
    _check_fitted(estimator)
    cls = known[name]
    params = estimator.get_params(deep=False)
    accepted = inspect.signature(cls).parameters
    made = cls.from_sklearn(
        estimator, **{key: value for key, value in params.items() if key in accepted}
    )
    return made.set_output(transform=_output(estimator))


def to_sklearn(scaler: Scaler) -> Any:
    """Return a fitted estimator of scikit-learn.

    Parameters
    ----------
    scaler : Scaler
        Fitted to a table.

    Returns
    -------
    estimator
        scikit-learn's counterpart. An affine scaler without one becomes a StandardScaler, followed
        by a MinMaxScaler where it shifts, multiplies or clips: together they compute what it does.

    Raises
    ------
    TypeError, ValueError
        If scikit-learn has nothing that does the same.
    """
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise ImportError(
            "export to 'sklearn' needs scikit-learn: pip install 'normcore-arrays[sklearn]'"
        ) from None
    if not isinstance(scaler, Scaler):
        raise TypeError(
            f"export to 'sklearn' takes a scaler of a table, not a {type(scaler).__name__}"
        )
    output = _output(scaler)
    if output not in (None, "default", "pandas", "polars"):
        raise ValueError(
            f"scikit-learn's estimators give no {output}: choose another container by set_output"
        )
    return _estimator(scaler).set_output(transform=output)


def _estimator(scaler: Scaler) -> Any:
    if "sklearn_class" not in vars(type(scaler)):  # derived classes may do something else
        return _of_coefficients(scaler)
    if scaler.__sklearn_tags__().requires_fit and not scaler.__sklearn_is_fitted__():
        raise not_fitted_error(scaler)
    if not is_columns(scaler.axis):
        raise ValueError(f"scikit-learn's estimators are for tables, not for axis={scaler.axis!r}")
    module, _, name = str(scaler.sklearn_class).rpartition(".")
    cls = getattr(import_module(module), name)
    if isinstance(scaler, AffineScaler):
        column_map(scaler, "sklearn")  # refuses what other arithmetic would get wrong
    params = scaler.get_params(deep=False)
    accepted = inspect.signature(cls).parameters
    made = cls(**{key: value for key, value in params.items() if key in accepted})
    return _with(made, scaler, **scaler.sklearn_attributes())


def to_bytes(estimator: Any) -> bytes:
    """Return what a ``.pkl`` file holds."""
    return pickle.dumps(estimator)


def _of_coefficients(scaler: Scaler) -> Any:
    """Return what computes the map of an affine scaler operation by operation."""
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    maps = column_map(scaler, "sklearn")
    center, scale, gamma, beta = np.array(maps.coefficients)
    seen = {} if scaler._num_rows is None else {"n_samples_seen_": scaler._num_rows}
    with np.errstate(over="ignore"):
        first = _with(StandardScaler(), scaler, mean_=center, scale_=scale, var_=scale**2, **seen)
    if maps.bounds is None and (gamma == 1.0).all() and not beta.any():
        return first
    clip = maps.bounds is not None
    second = MinMaxScaler(maps.bounds or (0, 1), clip=clip)
    low, high = second.feature_range
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = (low - beta) / gamma, (high - beta) / gamma
    _with(
        second, None, scale_=gamma, min_=beta, n_features_in_=len(beta), **seen,
        data_min_=ends[0], data_max_=ends[1], data_range_=ends[1] - ends[0],
    )  # fmt: skip
    if _output(scaler) not in (None, "default"):  # the second step is given frames of the first
        second.feature_names_in_ = np.array(first.get_feature_names_out(), dtype=object)
    return Pipeline([("standard", first), ("minmax", second)])


def _with(estimator: Any, scaler: Scaler | None, **attributes: Any) -> Any:
    """Return an estimator with fitted attributes, and the features of a scaler."""
    for name, value in attributes.items():
        if isinstance(value, int | float):
            value = np.asarray(value)[()]  # a count whose shape is asked for
        elif value is not None and hasattr(value, "dtype"):
            value = np.array(on_host(value))
        setattr(estimator, name, value)
    if scaler is not None:
        if hasattr(scaler, "n_features_in_"):  # a Normalizer needs none
            estimator.n_features_in_ = scaler.n_features_in_
        names = getattr(scaler, "feature_names_in_", None)
        if names is not None:
            estimator.feature_names_in_ = np.array(names, dtype=object)
    return estimator


def _output(estimator: object) -> str | None:
    """Return what ``set_output`` chose, here as there."""
    chosen: str | None = getattr(estimator, "_sklearn_output_config", {}).get("transform")
    return chosen


def _check_fitted(estimator: Any) -> None:
    from sklearn.utils.validation import check_is_fitted

    check_is_fitted(estimator)
