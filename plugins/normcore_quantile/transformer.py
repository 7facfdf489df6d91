"""QuantileTransformer, which maps features by their quantiles to a uniform or normal one."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any, Self

import numpy as np

import normcore as nc
from normcore_quantile import landmarks, sparse
from normcore_quantile.checks import check_count, check_landmarks
from normcore_quantile.estimation import (
    as_random_state,
    columns_of,
    num_samples,
    quantiles_of_columns,
    some_positions,
    taken,
)

__all__ = ["QuantileTransformer"]

DISTRIBUTIONS = ("uniform", "normal")


class QuantileTransformer(nc.QuantileLearner, nc.PointwiseScaler):
    """Map each feature to a uniform or normal distribution, by its quantiles.

    A value becomes the share of the data below it, between 0 and 1, interpolated between
    landmarks; for a normal distribution, the value below which that share lies there. What lies
    beyond the data becomes one of the bounds. Outliers lose their weight, frequent values spread.

    Parameters
    ----------
    n_quantiles : int, default=1000
        Number of landmarks; no more than samples are used.
    output_distribution : {"uniform", "normal"}, default="uniform"
    ignore_implicit_zeros : bool, default=False
        Of a sparse matrix, let the stored values alone count.
    subsample : int or None, default=10_000
        Rows that landmarks are estimated from, at random, where there are more. None takes all:
        the landmarks are then exact quantiles of the data.
    random_state : int, numpy.random.RandomState or None
        Of the subsample. None takes NumPy's global generator. A seed chooses the rows that it
        chooses in scikit-learn.
    copy : bool, default=True
        False writes the result into the input where that is a writable float array, or a sparse
        matrix of floats in CSC format.
    backend : str or Backend, optional
        The backend to use whatever the data; by default the one that fits it.
    axis : "columns", int, tuple of int or None, default="columns"
        The axes whose positions have landmarks of their own, of arrays of any number of
        dimensions; None makes everything one feature. By default ``X`` is a table.
    quantiles, quantile_error, keep_sketch
        As those of :class:`normcore.RobustScaler`. With a sketch all rows count, whatever
        ``subsample`` is, and there are ``n_quantiles`` landmarks, however few the rows.

    Attributes
    ----------
    n_quantiles_ : int
        Number of landmarks used.
    quantiles_ : float64 array of shape (n_quantiles, n_features)
        The landmarks: quantiles of each feature, NaN left out.
    references_ : float64 array of shape (n_quantiles,)
        The share of the data below each landmark.
    quantile_error_ : float
        The rank error that landmarks have at most, as quantiles of the rows they are estimated
        from: 0 where they are exact.
    n_samples_seen_, n_features_in_ : int
    feature_names_in_ : array of str of shape (n_features,)
        Where ``X`` named its columns.

    Notes
    -----
    Quantiles are interpolated linearly as in :func:`numpy.quantile`. A value that occurs so often
    that several landmarks equal it becomes the mean of their shares; at the least value it becomes
    0, at the largest 1. Values within 1e-7, as a probability, of an end of the normal distribution
    are that end, about 5.2 standard deviations away, and the inverse maps them to the bound.

    Examples
    --------
    >>> import normcore as nc
    >>> scaler = nc.QuantileTransformer(n_quantiles=3).fit([[1.0], [10.0], [1000.0]])
    >>> scaler.transform([[10.0], [505.0]])
    array([[0.5 ],
           [0.75]])
    """

    kernel = "quantile"
    sklearn_class = "sklearn.preprocessing.QuantileTransformer"
    unshaped = frozenset({"references_"})
    read_arrays = frozenset({"quantiles_", "references_"})

    n_quantiles_: int
    #: The landmarks as they are searched, beside the public ones that they were made of.
    _searched: list[tuple[tuple[Any, Any], tuple[np.ndarray, np.ndarray]]]
    quantiles_: Any
    references_: Any

    def __init__(
        self,
        *,
        n_quantiles: int = 1000,
        output_distribution: str = "uniform",
        ignore_implicit_zeros: bool = False,
        subsample: int | None = 10_000,
        random_state: int | np.random.RandomState | None = None,
        copy: bool = True,
        backend: str | nc.Backend | None = None,
        axis: int | tuple[int, ...] | str | None = "columns",
        quantiles: str = "exact",
        quantile_error: float = 0.01,
        keep_sketch: bool = False,
    ) -> None:
        self.n_quantiles = n_quantiles
        self.output_distribution = output_distribution
        self.ignore_implicit_zeros = ignore_implicit_zeros
        self.subsample = subsample
        self.random_state = random_state
        self.copy = copy
        self.backend = backend
        self.axis = axis
        self.quantiles = quantiles
        self.quantile_error = quantile_error
        self.keep_sketch = keep_sketch

    def check_parameters(self) -> None:
        """Refuse parameters that make no sense."""
        check_count("n_quantiles", self.n_quantiles)
        if self.output_distribution not in DISTRIBUTIONS:
            raise ValueError(
                "output_distribution must be 'uniform' or 'normal', got "
                f"{self.output_distribution!r}"
            )
        if not isinstance(self.ignore_implicit_zeros, bool | np.bool_):
            raise ValueError(
                f"ignore_implicit_zeros must be True or False, got {self.ignore_implicit_zeros!r}"
            )
        if self.subsample is not None:
            check_count("subsample", self.subsample)
            if self.n_quantiles > self.subsample:
                raise ValueError(
                    "The number of quantiles cannot be greater than the number of samples used. "
                    f"Got {self.n_quantiles} quantiles and {self.subsample} samples."
                )
        if not isinstance(self.random_state, np.random.RandomState):
            as_random_state(self.random_state)
        self.check_quantile_parameters()

    @property
    def _sketches(self) -> bool:
        return self.quantiles == "sketch" or bool(self.keep_sketch)

    # -- learning --------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, *, where: Any = None) -> Self:
        """Learn the landmarks of each feature.

        Parameters
        ----------
        X : array, data frame, sparse matrix or nested list of shape (n_samples, n_features)
            NaN is skipped. A sparse matrix has no values below zero, unless
            ``ignore_implicit_zeros``.
        y : None
            Ignored.
        sample_weight : number or array-like of shape (n_samples,), optional
            As that of :class:`normcore.RobustScaler`; all rows count then, whatever ``subsample``
            is, unless the weights are 0 and 1 alone.
        where : array of bool, optional
            As that of other scalers; not with a sparse matrix.

        Raises
        ------
        ValueError
            If a parameter makes no sense, or ``X`` is not two-dimensional, is empty, or holds
            infinity, text or complex numbers. The transformer then stays as it was.

        Warns
        -----
        UserWarning
            If there are fewer samples than ``n_quantiles``.
        """
        if not (sparse.is_sparse(X) and self._of_columns):
            return super().fit(X, y, sample_weight, where=where)
        sparse.refuse_where(where)
        self.check_parameters()
        if self._sketches:
            raise ValueError(
                "there is no sketch of sparse matrices: fit with quantiles='exact' and "
                "keep_sketch=False"
            )
        as_is = bool(getattr(X, "has_canonical_format", True))
        columns = sparse.as_columns(X, type(self).__name__, copy=not as_is)
        if not self.ignore_implicit_zeros:
            sparse.refuse_negative(columns)
        num_rows, num_features = columns.shape
        weights = None
        if sample_weight is not None:
            weights = self.checked_weights(sample_weight, num_rows)
        quantiles = sparse.quantiles_of_stored(
            columns,
            self._references(num_rows if weights is None else num_samples(weights)),
            subsample=self.subsample,
            ignore_zeros=bool(self.ignore_implicit_zeros),
            generator=as_random_state(self.random_state),
            weights=weights,
        )
        return self.fit_statistic(_mergeable(quantiles), num_rows, num_features, None)

    def observe(self, backend: nc.Backend, x: Any, *, weights: Any = None) -> nc.MergeableQuantiles:
        """Return the landmarks of a view, skipping NaN and positions of weight 0.

        As for :meth:`normcore.AffineScaler.observe`.
        """
        if self.ignore_implicit_zeros:
            nc.warn_caller(
                "'ignore_implicit_zeros' takes effect only with sparse matrix. This parameter has "
                "no effect.",
                package="normcore_quantile",
            )
        positions, counts = np.arange(x.shape[0] * x.shape[2]), None
        if weights is not None:
            given = np.asarray(backend.release(weights, np.empty(0)), np.float64).reshape(-1)
            positions, counts = positions[given > 0], given[given > 0]
            if (counts == 1.0).all():
                counts = None
        references = self._references(positions.size if counts is None else num_samples(counts))
        if counts is not None:
            return self._observe_weighted(backend, x, references, positions, counts, weights)
        whole = weights is None
        sketch = None
        if self._sketches:
            seen = x if whole else taken(x, positions)
            if self.quantiles == "sketch":
                return self.observe_quantiles(backend, seen, references)
            sketch = nc.QuantileSketch.observe(
                backend, seen, skipna=True, error=self.quantile_error
            )
        elif self.subsample is not None and self.subsample < positions.size:
            generator = as_random_state(self.random_state)
            chosen = some_positions(self.subsample, positions.size, generator)
            positions, whole = positions[chosen], False
        if not whole:
            extrema = backend.extrema(x, skipna=True).to_host()
            x = taken(x, positions)
        if isinstance(x, np.ndarray):
            quantiles = quantiles_of_columns(columns_of(x), references)
        else:
            found = backend.quantiles(x, references, skipna=True).to_host()
            values = np.maximum.accumulate(found.values, axis=0)
            quantiles = nc.Quantiles(references, values, found.count, found.infinite)
        if not whole:
            quantiles.infinite = (np.isinf(extrema.min) | np.isinf(extrema.max)) * (
                extrema.count > 0
            )
        return _mergeable(quantiles, sketch)

    def _observe_weighted(
        self,
        backend: nc.Backend,
        x: Any,
        references: np.ndarray,
        positions: np.ndarray,
        counts: np.ndarray,
        weights: Any,
    ) -> nc.MergeableQuantiles:
        """Return the landmarks of all that has a weight, at so many positions."""
        sketch = None
        if self.quantiles == "sketch":
            return self.observe_quantiles(backend, x, references, weights=weights)
        if self.keep_sketch:
            sketch = self.observe_quantiles(backend, x, [0.0], weights=weights).sketch
        host = np.asarray(backend.release(x, np.empty(0)))
        quantiles = quantiles_of_columns(columns_of(host)[positions], references, counts)
        return _mergeable(quantiles, sketch)

    def _references(self, num_samples: int) -> np.ndarray:
        if self._sketches:  # so that those of all data merge
            return np.linspace(0.0, 1.0, self.n_quantiles)
        if self.n_quantiles > num_samples:
            nc.warn_caller(
                f"n_quantiles ({self.n_quantiles}) is greater than the total number of samples "
                f"({num_samples}). n_quantiles is set to n_samples.",
                package="normcore_quantile",
            )
        return np.linspace(0.0, 1.0, max(1, min(self.n_quantiles, num_samples)))

    def prepare(self, quantiles: nc.Quantiles) -> None:
        """Set the landmarks.

        Parameters
        ----------
        quantiles : Quantiles
            What :meth:`observe` returned, or several of it merged, on the host.
        """
        if not len(quantiles.q):
            raise ValueError("a QuantileTransformer has at least one landmark")
        for values in (quantiles.q[:, None], quantiles.values):
            if bool((values[1:] < values[:-1]).any()):
                raise ValueError("landmarks must not decrease from one to the next")
        self.n_quantiles_ = len(quantiles.q)
        self.quantiles_, self.references_ = quantiles.values, quantiles.q
        self._host = (quantiles.values, quantiles.q)
        self._searched = []

    @classmethod
    def from_sklearn(cls, estimator: Any, **params: Any) -> Self:
        """Return a transformer of the landmarks of scikit-learn's.

        As for :meth:`normcore.AffineScaler.from_sklearn`.
        """
        values = np.array(estimator.quantiles_, dtype=np.float64)
        count = np.where(np.isnan(values).any(axis=0), 0.0, float(len(values)))
        landmarks = nc.Quantiles(
            np.array(estimator.references_, dtype=np.float64), values, count, np.zeros(len(count))
        )
        names = getattr(estimator, "feature_names_in_", None)
        return cls(**params).fit_statistic(_mergeable(landmarks), None, len(count), names)

    def sklearn_attributes(self) -> Mapping[str, Any]:
        """Return the fitted attributes of scikit-learn's transformer."""
        values, references = self._landmarks()
        return {
            "n_quantiles_": len(references),
            "quantiles_": values.T,
            "references_": references,
        }

    # -- transforming ----------------------------------------------------------------------

    def forward(self, xp: ModuleType, x: Any) -> Any:
        """Return the shares of the data below values, or the normal variables that have them.

        As for :meth:`normcore.PointwiseScaler.forward`.
        """
        return self._on_host(landmarks.forward, xp, x)

    def inverse(self, xp: ModuleType, x: Any) -> Any:
        """Return what has these shares of the data below it; as for :meth:`forward`."""
        return self._on_host(landmarks.inverse, xp, x)

    def kernel_arguments(self) -> tuple[np.ndarray, np.ndarray, bool]:
        """Return landmarks, references and whether they are mapped to a normal distribution."""
        return *self._landmarks(), self.output_distribution == "normal"

    def _on_host(self, function: Any, xp: ModuleType, x: Any) -> Any:
        """Return the map of arrays that no kernel takes, by way of the host."""
        host = nc.get_backend("reference").release(x, np.empty(0))
        return xp.asarray(function(host, *self.kernel_arguments()))

    def _landmarks(self) -> tuple[np.ndarray, np.ndarray]:
        """Return landmarks of shape (n_features, n_quantiles_) and references, in NumPy."""
        public = self.quantiles_, self.references_
        for known, found in self._searched:
            if all(a is b for a, b in zip(public, known, strict=True)):
                return found
        learned = self._host
        values, references = (
            self.numbers_now(name, each)
            for name, each in zip(("quantiles_", "references_"), learned, strict=True)
        )
        check_landmarks(values, references, learned[0].shape[1])
        # Each feature's side by side, as they are searched.
        found = np.array(values.reshape(len(references), -1).T, order="C"), references
        if not any(getattr(getattr(each, "flags", None), "writeable", True) for each in public):
            self._searched[:] = [(public, found)]
        return found

    def transform(self, X: Any, *, out: Any = None, where: Any = None) -> Any:
        """Return ``X`` mapped.

        Parameters
        ----------
        X : array, data frame, sparse matrix or nested list of shape (n_samples, n_features)
            NaN stays NaN. Of a sparse matrix the stored values are mapped, and the result is in
            CSC format.
        out : array of shape (n_samples, n_features), optional
            As that of other scalers; not with a sparse matrix.
        where : array of bool, optional
            As that of other scalers; not with a sparse matrix.

        Raises
        ------
        ValueError
            If ``X`` has other features than in fit, or holds infinity.
        NotFittedError
            If the transformer is not fitted.
        """
        if self._maps_stored(X):
            sparse.refuse_where(where)
            return self._mapped_stored(X, False, out)
        return super().transform(X, out=out, where=where)

    def inverse_transform(
        self, X: Any, *, columns: Any = None, out: Any = None, where: Any = None
    ) -> Any:
        """Return mapped data as it was; other parameters and errors as for :meth:`transform`.

        Parameters
        ----------
        columns : list of names or positions, mask or slice, optional
            The features that ``X`` holds, in its order; by default all. Not with a sparse matrix.
        """
        if self._maps_stored(X):
            sparse.refuse_where(where)
            if columns is not None:
                raise TypeError("columns= is for dense arrays; pass all features of a sparse one")
            return self._mapped_stored(X, True, out)
        return super().inverse_transform(X, columns=columns, out=out, where=where)

    def _maps_stored(self, X: Any) -> bool:
        return self.__sklearn_is_fitted__() and sparse.is_sparse(X) and self._of_columns

    @property
    def _of_columns(self) -> bool:
        return isinstance(self.axis, str)

    def _mapped_stored(self, X: Any, back: bool, out: Any) -> Any:
        if out is not None:
            raise TypeError("out= is for dense results; the map of a sparse matrix is a new one")
        if X.ndim == 2 and X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        columns = sparse.as_columns(X, type(self).__name__, copy=self.copy)
        if not back and not self.ignore_implicit_zeros:
            sparse.refuse_negative(columns)
        normal = self.output_distribution == "normal"
        sparse.map_stored(columns, *self._landmarks(), normal=normal, back=back)
        return columns

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _mergeable(
    found: nc.Quantiles, sketch: nc.QuantileSketch | None = None
) -> nc.MergeableQuantiles:
    return nc.MergeableQuantiles(found.q, found.values, found.count, found.infinite, sketch)
