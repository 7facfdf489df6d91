"""The map of a fitted scaler as numbers of each column, which is all that most formats can say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from normcore.scaling.affine_scaler import AffineScaler
from normcore.scaling.estimator import not_fitted_error
from normcore.scaling.feature_axes import is_columns
from normcore.scaling.finite_maps import FiniteAffine
from normcore.scaling.input_validation import column_label
from normcore.scaling.scaler import Scaler

__all__ = ["Column", "ColumnMap", "check_dtype", "column_map", "column_names"]


class Column(NamedTuple):
    """The coefficients of one column."""

    center: float
    scale: float
    gamma: float
    beta: float


class ColumnMap(NamedTuple):
    """``((x - center) / scale) * gamma + beta`` of each column of a table, then clipped.

    Every operation is one of float64 and rounded once, in this order; the result is rounded to the
    dtype of the table at the end. NaN stays NaN.
    """

    #: center, scale, gamma and beta: float64, shape (4, n_features).
    coefficients: np.ndarray
    #: What results are clipped to, values of the dtype of the result; NaN is not.
    bounds: tuple[float, float] | None

    @property
    def num_features(self) -> int:
        """The number of columns."""
        return self.coefficients.shape[1]

    def columns(self) -> Iterator[Column]:
        """Yield the coefficients of one column after another."""
        return (Column(*map(float, each)) for each in self.coefficients.T)


def column_map(
    fitted: object, format: str, *, dtype: DTypeLike = np.float64, inverse: bool = False
) -> ColumnMap:
    """Return the map of a fitted scaler.

    Parameters
    ----------
    fitted : object
        What is exported.
    format : str
        The name of the format, for errors.
    dtype : NumPy dtype
        Of the table and the result; a range that results are to stay in depends on it.
    inverse : bool
        Whether to return the inverse, which does not clip.

    Raises
    ------
    TypeError
        If it is no scaler, or one that does something else.
    ValueError
        If its map is more than these numbers, or it has no inverse.
    NotFittedError
        If it is not fitted.
    """
    owner = type(fitted).__name__
    if not isinstance(fitted, Scaler):
        parts = ": export each of its named_transformers_" if _has_parts(fitted) else ""
        raise TypeError(f"export to {format!r} takes a scaler of a table, not a {owner}{parts}")
    if not fitted.__sklearn_is_fitted__():
        raise not_fitted_error(fitted)
    if not isinstance(fitted, AffineScaler):
        raise TypeError(
            f"export to {format!r} says center, scale, gamma and beta of each column, and "
            f"{owner} is another map: {_instead(fitted)}"
        )
    if fitted.squashes:
        raise ValueError(
            f"export to {format!r} says center, scale, gamma and beta of each column, and this "
            f"{owner} squashes what lies beyond: fit one that clips or leaves it, or "
            f"{_instead(fitted)}"
        )
    _refuse_own_transform(fitted, "inverse_transform" if inverse else "transform")
    if not is_columns(fitted.axis):
        raise ValueError(
            f"export to {format!r} is for tables, and this {owner} has axis={fitted.axis!r}: fit "
            "one with axis='columns'"
        )
    affine, bounds = fitted._map_of(np.empty((0, fitted.n_features_in_), dtype))
    _refuse_other_arithmetic(fitted, affine, format)
    if inverse:
        affine, bounds = affine.inverse(), None
        _refuse_other_arithmetic(fitted, affine, format)
    return ColumnMap(affine.coefficients(fitted.n_features_in_), bounds)


def column_names(fitted: Scaler, columns: Sequence[str] | None = None) -> list[str]:
    """Return the names of the columns: those given, or else those of fit, or x0, x1 and so on.

    Raises
    ------
    ValueError
        If there are more or less of them than features, or two are the same.
    TypeError
        If one is no string.
    """
    if columns is None:
        names = getattr(fitted, "feature_names_in_", None)
        found = [f"x{i}" for i in range(fitted.n_features_in_)] if names is None else list(names)
    elif isinstance(columns, str):
        raise TypeError(f"columns must be a list of names, not the text {columns!r}")
    else:
        found = list(columns)
    if len(found) != fitted.n_features_in_:
        raise ValueError(
            f"columns has {len(found)} names, but the {type(fitted).__name__} has "
            f"{fitted.n_features_in_} features"
        )
    for name in found:
        if not isinstance(name, str):
            raise TypeError(f"the name of a column must be a string, not {name!r}")
    twice = [name for name, times in Counter(found).items() if times > 1]
    if twice:
        raise ValueError(f"two columns are named {twice[0]!r}: give other names by columns=")
    return [str(name) for name in found]


def check_dtype(dtype: DTypeLike, *accepted: str) -> np.dtype:
    """Return a dtype that is among those accepted, by name.

    Raises
    ------
    ValueError
        If it is none of them.
    """
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found.name not in accepted:
        raise ValueError(f"dtype must be {' or '.join(map(repr, accepted))}, got {dtype!r}")
    return found


def _refuse_own_transform(scaler: AffineScaler, method: str) -> None:
    """Refuse a scaler that does not leave transform to its map."""
    owner = next(each for each in type(scaler).__mro__ if method in vars(each))
    if owner.__module__.partition(".")[0] != "normcore":
        raise TypeError(
            f"{owner.__name__}.{method} replaces that of AffineScaler, and may compute something "
            "else than its map, which alone is exported: give affine, bounds and squash instead"
        )


def _refuse_other_arithmetic(scaler: AffineScaler, affine: object, format: str) -> None:
    """Refuse what the four coefficients in float64 do not compute as the scaler does."""
    names = getattr(scaler, "feature_names_in_", None)
    if isinstance(affine, FiniteAffine) and affine.unit is not None:
        label = column_label(int(np.flatnonzero(affine.unit != 1.0)[0]), names)
        raise ValueError(
            f"{label} of X has values near the largest float64, whose differences may be larger; "
            f"for {format!r}, multiply it by a small constant before it is fitted"
        )
    low = getattr(affine, "center_low", None)
    if low is not None and np.any(low):
        label = column_label(int(np.flatnonzero(low)[0]), names)
        raise ValueError(
            f"{label} of X held integers beyond 2**53, which {type(scaler).__name__} subtracts "
            f"exactly and {format!r} would round: subtract an origin from it before it is fitted"
        )


def _has_parts(fitted: object) -> bool:
    """Whether it is one scaler for some columns, and others for others."""
    return hasattr(type(fitted), "named_transformers_")


def _instead(scaler: Scaler) -> str:
    """Return what can be done with a scaler that formats of numbers cannot say."""
    files = "keep it with save(), and transform where normcore is"
    if scaler.sklearn_class is None:
        return files
    return f"export it to 'sklearn', or {files}"
