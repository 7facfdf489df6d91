"""StandardScaler: zero mean and unit variance of each feature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from normcore.affine import Affine, nonconstant
from normcore.array_backend.abstract import Backend
from normcore.layout.namespace import Array
from normcore.scaling import input_validation
from normcore.scaling.affine_scaler import AffineScaler
from normcore.scaling.feature_axes import COLUMNS, Axis
from normcore.scaling.features import Features
from normcore.scaling.known_statistics import KnownStatistics, known_moments
from normcore.scaling.weighted_scaler import WeightedScaler
from normcore.statistics import Moments, wide_integers

__all__ = ["StandardScaler"]


class StandardScaler(WeightedScaler, AffineScaler):
    """Standardize each feature to zero mean and unit variance: ``(x - mean) / std``.

    Parameters
    ----------
    copy : bool, default=True
        False writes the result into the input where that is a writable float array.
    with_mean : bool, default=True
        Subtract the mean.
    with_std : bool, default=True
        Divide by the standard deviation (biased: ``ddof=0``).
    backend : str or Backend, optional
        The backend to use whatever the data; by default the one that fits it.
    axis : "columns", int, tuple of int or None, default="columns"
        The axes whose positions have statistics of their own, of arrays of any number of
        dimensions; None makes everything one feature. By default ``X`` is a table.

    Attributes
    ----------
    mean_ : float64 array of shape (n_features,) or None
        Mean of each feature, NaN left out; None where neither mean nor variance is used.
    var_ : float64 array of shape (n_features,) or None
        Biased variance; None where ``with_std=False``. It may overflow where ``scale_`` does not.
    scale_ : float64 array of shape (n_features,) or None
        Standard deviation, or 1 for a constant feature: one whose standard deviation is at most
        ``8 * eps * abs(mean)``, whatever the number of rows. None where ``with_std=False``.
    n_samples_seen_ : int, float or array of shape (n_features,)
        Number of values that are not NaN, or the sum of their weights; an array where features
        differ.
    n_features_in_ : int
    feature_names_in_ : array of str of shape (n_features,)
        Where ``X`` named its columns.

    Notes
    -----
    ``mean_`` and ``scale_`` are the map: assigned, they take effect in all that follows, on a
    scaler that was never fitted too. What was observed is then not known any more, so
    ``partial_fit`` and ``merge`` refuse.

    The mean is within 1 ulp and the variance within 4 ulp of exact arithmetic, in one piece or
    streamed. Data is scaled in float64 and rounded once to its own dtype. Integers beyond 2**53,
    as clocks in nanoseconds are, count with every digit, in fit and in transform; a column that
    held such is constant only if all its values are equal.

    Examples
    --------
    >>> import normcore as nc
    >>> scaler = nc.StandardScaler().fit([[0.0, 10.0], [2.0, 30.0]])
    >>> scaler.mean_, scaler.scale_
    (array([ 1., 20.]), array([ 1., 10.]))
    >>> scaler.transform([[1.0, 50.0]])
    array([[0., 3.]])
    >>> scaler.partial_fit([[4.0, 50.0]]).mean_
    array([ 2., 30.])
    """

    __module__ = "normcore"

    statistic = Moments
    sklearn_class = "sklearn.preprocessing.StandardScaler"
    coefficients: ClassVar[Mapping[str, str]] = {"mean_": "center", "scale_": "scale"}
    switches: ClassVar[Mapping[str, str]] = {"mean_": "with_mean", "scale_": "with_std"}

    mean_: Array
    var_: Array
    scale_: Array

    def __init__(
        self,
        *,
        copy: bool = True,
        with_mean: bool = True,
        with_std: bool = True,
        backend: str | Backend | None = None,
        axis: Axis = COLUMNS,
    ) -> None:
        self.copy = copy
        self.with_mean = with_mean
        self.with_std = with_std
        self.backend = backend
        self.axis = axis

    @classmethod
    def from_statistics(
        cls,
        *,
        mean: Array = None,
        std: Array = None,
        var: Array = None,
        count: Array = None,
        feature_names: Sequence[str] | None = None,
        **params: Any,
    ) -> Self:
        """Return a scaler of statistics that are known, as if it had been fitted to their data.

        Parameters
        ----------
        mean : number or array-like of shape (n_features,)
            Of each feature; one number stands for all. None or NaN for a feature without values.
            May be left out where ``with_mean=False``.
        std, var : number or array-like of shape (n_features,)
            Standard deviation or variance, biased; one of the two. May be left out where
            ``with_std=False``. A feature of no spread is constant: its scale is 1.
        count : number or array-like of shape (n_features,), optional
            How many values these were observed of, or the sum of their weights. Without it
            nothing can be added: ``partial_fit`` and ``merge`` refuse.
        feature_names : sequence of str, optional
        **params
            Parameters of the constructor.

        Raises
        ------
        ValueError
            If a statistic that is needed is missing, is infinite or negative, or has another
            length.
        TypeError
            If something is not a number.
        """
        scaler = cls(**params)
        scaler._check_parameters()
        if std is not None and var is not None:
            raise ValueError("give std or var, not both")
        for name, value, switch in (("mean", mean, "with_mean"), ("std or var", std, "with_std")):
            if value is None and getattr(scaler, switch) and (name == "mean" or var is None):
                raise ValueError(f"{name} is needed, unless {switch}=False")
        known = KnownStatistics(
            {"mean": mean, "std": std, "var": var}, count, feature_names, scaler.axis
        )
        if "var" in known.numbers:
            known.refuse_negative("var")
            known.numbers["std"] = np.sqrt(known.numbers["var"])
        if "std" in known.numbers:
            known.refuse_negative("std")
        if "mean" in known.numbers and "std" in known.numbers:
            moments = known_moments(known)
            return scaler._learn(
                moments, known.num_rows, known.num_features, known.names, known.features
            )
        if count is not None:
            raise ValueError("count needs both mean and std or var, so that data can be added")
        given = {"mean_": known.numbers.get("mean"), "scale_": known.numbers.get("std")}
        return scaler._set_known(known, given)

    @classmethod
    def from_sklearn(cls, estimator: Any, **params: Any) -> Self:
        """Return a scaler of what scikit-learn's has learned, constant features included.

        It goes on with ``partial_fit`` where they are constant by the rule of this class.

        Parameters
        ----------
        estimator, **params
            As for :meth:`normcore.AffineScaler.from_sklearn`.
        """
        mean, scale = estimator.mean_, estimator.scale_
        names = getattr(estimator, "feature_names_in_", None)
        if mean is None:  # neither is used
            width = estimator.n_features_in_
            return cls.from_statistics(
                mean=np.zeros(width), std=np.ones(width), feature_names=names, **params
            )
        if scale is None:
            return cls.from_statistics(mean=mean, feature_names=names, **params)
        count = np.where(np.isnan(mean), 1, estimator.n_samples_seen_)
        var = np.asarray(estimator.var_)
        spread = {"var": var}
        lost = np.isinf(var) | ((var == 0.0) & (scale != 1.0))  # its square is no float64
        if lost.any():
            spread = {"std": np.where(lost, scale, np.sqrt(var))}
        made = cls.from_statistics(mean=mean, count=count, feature_names=names, **spread, **params)
        if not input_validation.same_numbers(made.scale_, scale):
            made.scale_ = scale
        return made

    def sklearn_attributes(self) -> Mapping[str, Any]:
        """Return the fitted attributes of scikit-learn's scaler."""
        return {
            name: getattr(self, name)
            for name in ("mean_", "var_", "scale_", "n_samples_seen_")
            if hasattr(self, name)
        }

    @property
    def keeps_zero(self) -> bool:
        """Whether zero maps to zero: so without centering."""
        return not self.with_mean

    def _check_sparse(self, *, inverse: bool) -> None:
        if self.with_mean:
            raise ValueError(
                f"Cannot {'uncenter' if inverse else 'center'} sparse matrices: pass "
                "`with_mean=False` instead. See docstring for motivation and alternatives."
            )

    def check_parameters(self) -> None:
        """Refuse what is no flag."""
        input_validation.check_flags(with_mean=self.with_mean, with_std=self.with_std)

    def affine(self, moments: Moments) -> Affine:
        """Set the fitted attributes from the moments and return the map.

        Parameters
        ----------
        moments : Moments
            What :meth:`observe` returned, or several of it merged, on the host.
        """
        mean, count = moments.mean, moments.count
        used = self.with_mean or self.with_std
        self.n_samples_seen_ = _plain_count(count)
        self.mean_ = mean if used else None
        with np.errstate(over="ignore", under="ignore"):
            self.var_ = moments.var() if self.with_std else None
        center_low, location = None, mean
        if self.with_mean and bool(np.any(np.abs(mean) >= wide_integers.LARGE)):
            center_low = np.zeros_like(mean)
        if moments.wide is not None:
            # Such integers are exact, and their sums as pairs of float64.
            location = np.where(moments.wide, np.finfo(np.float64).eps * mean, mean)
            if center_low is not None:
                center_low = np.where(moments.wide, moments.mean_low, 0.0)
        self.scale_ = nonconstant(moments.std(), location) if self.with_std else None
        return Affine(
            center=mean if self.with_mean else 0.0,
            scale=self.scale_ if self.with_std else 1.0,
            center_low=center_low,
        )

    def transform(
        self, X: Array, copy: bool | None = None, *, out: Array = None, where: Array = None
    ) -> Array:
        """Return ``X`` standardized.

        Parameters
        ----------
        X : array, data frame, sparse matrix or nested list of shape (n_samples, n_features)
            NaN stays NaN.
        copy : bool, optional
            Overrides the scaler's ``copy``.
        out : array of the shape of X, optional
            Written to and returned: in the memory order of ``X``, of the result's dtype, which is
            that of ``X`` for floats and float64 for others. May be ``X`` itself.
        where : array of bool, optional
            Of a shape that broadcasts to that of ``X``: elements where it is False stay as they
            are, whatever they hold.

        Raises
        ------
        ValueError
            If ``X`` has other features than in fit, or holds infinity.
        NotFittedError
            If the scaler is not fitted.
        """
        return self._transformed(X, False, self.copy if copy is None else copy, out, where)

    def inverse_transform(
        self,
        X: Array,
        copy: bool | None = None,
        *,
        columns: Features | None = None,
        out: Array = None,
        where: Array = None,
    ) -> Array:
        """Return standardized data as it was; other parameters are those of :meth:`transform`.

        Parameters
        ----------
        columns : list of names or positions, mask or slice, optional
            The features that ``X`` holds, in its order; by default all.
        """
        copy = self.copy if copy is None else copy
        return self._transformed(X, True, copy, out, where, columns)


def _plain_count(count: np.ndarray) -> int | float | np.ndarray:
    """Return whole counts as integers, and one number where all features agree."""
    whole = bool(((count == np.floor(count)) & (count < 2.0**53)).all())
    if (count == count[0]).all():
        return int(count[0]) if whole else float(count[0])
    return count.astype(np.int64) if whole else count
