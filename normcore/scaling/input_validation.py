"""What users pass as X and sample_weight, turned into arrays of real numbers, or refused.

NumPy arrays, nested lists, data frames and arrays of any library that speaks DLPack. Wording
follows scikit-learn where its users rely on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from types import ModuleType
from typing import TypeAlias

import numpy as np

from normcore import registration
from normcore.array_backend.over_views import TINY_WEIGHT, check_weights
from normcore.layout.bfloat16 import holds_bfloat16, widened
from normcore.layout.namespace import Array, array_namespace, host_view, to_numpy
from normcore.layout.scalar_argument import as_float
from normcore.package.callers_warning import warn_caller
from normcore.scaling.containers.frames import (
    arrow_values,
    frame_values,
    is_arrow_array,
    is_frame,
    library_of,
)
from normcore.scaling.feature_axes import columns_alone_error
from normcore.scaling.real_numbers import as_numbers, real_numbers

__all__ = [
    "Names",
    "any_array",
    "as_table",
    "as_weights",
    "check_flags",
    "check_names",
    "check_shape",
    "check_sum_of_weights",
    "first_infinity",
    "host_weights",
    "infinity_error",
    "refuse_infinity",
]

#: Names of columns, all of them strings.
Names: TypeAlias = Sequence[str] | np.ndarray

# Rows looked at together in search of an infinity.
BLOCK_ROWS = 4096


def as_table(X: Array, owner: str) -> Array:
    """Return ``X`` as a two-dimensional array of real numbers.

    Parameters
    ----------
    X : array, data frame or nested list of shape (n_samples, n_features)
    owner : str
        Name of the class in whose name errors speak.

    Returns
    -------
    array
        A NumPy array, or ``X`` itself where it is an array of another library. Integers and bool
        stay as they are. Missing values of a frame and masked elements become NaN.

    Raises
    ------
    ValueError
        If ``X`` is not two-dimensional, has no row or no column, or holds text or complex numbers.
    TypeError
        If ``X`` holds objects that are not numbers.
    """
    if isinstance(X, np.ma.MaskedArray):
        masked, X = np.ma.getmaskarray(X), np.asarray(X.data)
        if X.ndim == 2:
            X = real_numbers(X, None)
            X = np.where(masked, np.nan, X) if masked.any() else X
    elif is_frame(X):
        X = frame_values(X)
    elif is_arrow_array(X):
        X = arrow_values(X)
    elif isinstance(X, np.ndarray) or not _is_foreign_array(X):
        X = np.asarray(X)
        if X.ndim == 2:
            X = real_numbers(X, None)
    check_shape(X, owner)
    return X


def any_array(X: Array, owner: str) -> Array:
    """Return ``X``, of any number of dimensions, as an array of real numbers.

    Raises
    ------
    ValueError
        If it has no element, or holds text or complex numbers.
    TypeError
        If it is lazy, sparse, or holds objects that are not numbers.
    """
    if hasattr(X, "tocsr"):
        raise columns_alone_error("sparse matrices", owner)
    if hasattr(X, "collect_schema") and not hasattr(X, "to_numpy"):
        raise columns_alone_error("lazy frames", owner)
    library = library_of(X)
    if any(engine.takes(X) for engine in registration.engines_of(library)):
        raise columns_alone_error(f"collections of {library}", owner)
    if is_frame(X):
        X = frame_values(X)
    if isinstance(X, np.ma.MaskedArray):
        raise TypeError(
            "X is a masked array, which has its mask for itself; pass X.data and "
            "where=~numpy.ma.getmaskarray(X)"
        )
    if not hasattr(X, "dtype"):
        X = host_view(X) if hasattr(X, "__dlpack__") else np.asarray(X)
    if holds_bfloat16(X):
        X = widened(X)
    elif isinstance(X, np.ndarray):
        X = real_numbers(X, None)
    if 0 in X.shape:
        raise ValueError(
            f"Found array with 0 elements (shape={tuple(X.shape)}) while a minimum of 1 is "
            f"required by {owner}."
        )
    return X


def check_names(fitted: Names | None, given: Names | None, owner: str) -> None:
    """Compare the feature names of X with those seen in fit; either may be None.

    Raises
    ------
    ValueError
        If both are known and differ.

    Warns
    -----
    UserWarning
        If only one of them is known.
    """
    if fitted is None and given is None:
        return
    if fitted is None:
        message = f"X has feature names, but {owner} was fitted without feature names"
        warn_caller(message, UserWarning)
    elif given is None:
        message = f"X does not have valid feature names, but {owner} was fitted with feature names"
        warn_caller(message, UserWarning)
    elif list(fitted) != list(given):
        lines = ["The feature names should match those that were passed during fit."]
        unexpected = sorted(set(given) - set(fitted))
        missing = sorted(set(fitted) - set(given))
        if unexpected:
            lines += ["Feature names unseen at fit time:", *_bullets(unexpected)]
        if missing:
            lines += ["Feature names seen at fit time, yet now missing:", *_bullets(missing)]
        if not unexpected and not missing:
            lines += ["Feature names must be in the same order as they were in fit."]
        raise ValueError("\n".join(lines) + "\n")


def check_flags(**flags: object) -> None:
    """Refuse parameters that are neither True nor False: the text "False" would count as True.

    Raises
    ------
    ValueError
        If there is such a one.
    """
    for name, value in flags.items():
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{name} must be True or False, got {value!r}")


def as_weights(sample_weight: Array, num_samples: int, *, of_all: bool = True) -> Array:
    """Return one weight for each sample.

    Parameters
    ----------
    sample_weight : number or array-like of shape (n_samples,)
    of_all : bool
        Whether there are no other samples; if there are, these may weigh next to nothing.

    Raises
    ------
    ValueError
        If the shape is another one, all weights are zero, or one of a NumPy array is NaN or
        infinite. Signs, and other arrays, are looked at where the weights meet the data.
    TypeError
        If they are not numbers.
    """
    if is_arrow_array(sample_weight):
        sample_weight = arrow_values(sample_weight)
    if isinstance(sample_weight, Real):
        sample_weight = np.full(num_samples, as_float("sample_weight", sample_weight))
    elif not hasattr(sample_weight, "dtype") and hasattr(sample_weight, "__dlpack__"):
        sample_weight = host_view(sample_weight)
    elif isinstance(sample_weight, np.ndarray) or not _is_foreign_array(sample_weight):
        sample_weight = np.asarray(sample_weight)
        sample_weight = widened(sample_weight)
        if sample_weight.dtype.kind not in "biuf":
            sample_weight = as_numbers(sample_weight, "sample_weight")
        if sample_weight.ndim == 0:
            sample_weight = np.full(num_samples, sample_weight)
    else:
        sample_weight = widened(sample_weight)
    if sample_weight.ndim != 1:
        raise ValueError(
            f"Sample weights must be 1D array or scalar, got {sample_weight.ndim}D array. "
            f"Expected either a scalar value or a 1D array of length {num_samples}."
        )
    if sample_weight.shape[0] != num_samples:
        raise ValueError(
            f"sample_weight has {sample_weight.shape[0]} values, but X has {num_samples} rows"
        )
    if isinstance(sample_weight, np.ndarray):
        if of_all and not sample_weight.any():
            raise ValueError("Sample weights must contain at least one non-zero number.")
        _refuse_not_finite(sample_weight)
    if of_all and isinstance(sample_weight, np.ndarray):
        with np.errstate(over="ignore"):
            total = np.sum(sample_weight, dtype=np.float64)
        check_sum_of_weights(
            float(total), np.max(sample_weight) if np.min(sample_weight) >= 0 else np.inf
        )
    return sample_weight


def check_sum_of_weights(total: float, heaviest: float) -> None:
    """Refuse weights whose sum, or whose products with data, float64 cannot hold.

    Raises
    ------
    ValueError
        If they are too large, or all too small.
    """
    if np.isinf(total):
        raise too_heavy_error()
    if 0 < heaviest < TINY_WEIGHT:
        raise ValueError(
            f"sample_weight holds nothing above {heaviest}, whose products with data float64 "
            "cannot hold; multiply the weights by a constant"
        )


def too_heavy_error() -> ValueError:
    """Return the error for weights whose sums overflow."""
    return ValueError(
        "sample_weight is so large that its sum, or that of its products with X, is beyond the "
        "largest float64; divide the weights by a constant"
    )


def host_weights(sample_weight: Array, num_samples: int, *, of_all: bool = True) -> np.ndarray:
    """Return one weight for each sample in float64 on the host; errors as of :func:`as_weights`.

    Raises
    ------
    ValueError
        If one is negative, NaN or infinite, too.
    """
    weights = as_weights(sample_weight, num_samples, of_all=of_all)
    weights = np.ascontiguousarray(to_numpy(weights), dtype=np.float64)
    check_weights(weights)
    return weights


def first_infinity(x: Array, xp: ModuleType, weights: Array = None) -> tuple[int, int] | None:
    """Return row and column of the first infinite element of a 2-D array, or None.

    Rows of weight 0 are not there.
    """
    if x.dtype.kind != "f" if xp is np else xp.isdtype(x.dtype, ("bool", "integral")):
        return None
    for start in range(0, x.shape[0], BLOCK_ROWS):
        block = slice(start, min(start + BLOCK_ROWS, x.shape[0]))
        infinite = xp.isinf(x[block, :])
        if weights is not None:
            infinite = infinite & xp.astype(weights[block], xp.bool)[:, None]
        if bool(xp.any(infinite)):
            rows, columns = xp.nonzero(infinite)[:2]
            return start + int(rows[0]), int(columns[0])
    return None


def refuse_infinity(x: Array, names: Names | None, weights: Array = None) -> None:
    """Refuse a 2-D array with an infinite element that weighs anything.

    Raises
    ------
    ValueError
        Naming the place of the first one.
    """
    place = first_infinity(x, array_namespace(x), weights)
    if place is None:
        return
    raise infinity_error(*place, names)


def infinity_error(row: int, column: int, names: Names | None) -> ValueError:
    """Return the error of the first infinite element."""
    return ValueError(
        f"Input X contains infinity: {column_label(column, names)}, first at row {row}. Remove the "
        "row, or replace the value by NaN, which scalers skip."
    )


def same_numbers(one: Array, other: Array) -> bool:
    """Whether numbers, in the precision of the second, differ by no more than a few roundings."""
    held = np.asarray(other)
    tolerance = 8 * np.finfo(held.dtype).eps
    return bool(np.allclose(np.asarray(one), held, rtol=tolerance, atol=0.0, equal_nan=True))


def column_label(column: int, names: Names | None) -> str:
    """Return the words that name a column: ``column 3``, or ``column 'age' (index 3)``."""
    return f"column {column}" if names is None else f"column {names[column]!r} (index {column})"


def check_shape(X: Array, owner: str) -> None:
    """Refuse what is not two-dimensional, or has no row or no column.

    Raises
    ------
    ValueError
        In scikit-learn's words.
    """
    if X.ndim != 2:
        if X.ndim > 2:
            raise ValueError(
                f"Found array with dim {X.ndim}, while dim <= 2 is required by {owner}."
            )
        kind = "1D array" if X.ndim == 1 else "scalar array"
        raise ValueError(
            f"Expected 2D array, got {kind} instead:\narray={X!r}.\n"
            "Reshape your data either using array.reshape(-1, 1) if your data has a single "
            "feature or array.reshape(1, -1) if it contains a single sample."
        )
    rows, columns = X.shape
    if rows == 0:
        raise ValueError(
            f"Found array with 0 sample(s) (shape=({rows}, {columns})) while a minimum of 1 is "
            f"required by {owner}."
        )
    if columns == 0:
        raise ValueError(
            f"Found array with 0 feature(s) (shape=({rows}, {columns})) while a minimum of 1 is "
            f"required by {owner}."
        )


def _is_foreign_array(X: Array) -> bool:
    return hasattr(X, "__dlpack__") or hasattr(X, "__array_namespace__")


def _refuse_not_finite(weights: np.ndarray) -> None:
    finite = np.isfinite(weights)
    if not finite.all():
        place = int(np.argmin(finite))
        value = float(weights[place])
        raise ValueError(
            f"Input sample_weight contains {'NaN' if value != value else 'infinity'}: weights must "
            f"be finite and not negative, but weight {place} is {value!r}"
        )


def _bullets(names: list[str], most: int = 5) -> list[str]:
    return [f"- {name}" for name in names[:most]] + ["- ..."] * (len(names) > most)
