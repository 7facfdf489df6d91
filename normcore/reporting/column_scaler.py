"""An estimator that scales some columns by one scaler, some by others, and lets the rest pass."""

from __future__ import annotations

import copy as copying
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self, TypeAlias, cast

import numpy as np

from normcore.layout.namespace import Array
from normcore.registration.exporting import Exporting
from normcore.reporting import column_files
from normcore.reporting.column_parts import Parts, converted
from normcore.saving.scaler_file import save_scaler
from normcore.scaling.containers.frames import is_frame
from normcore.scaling.containers.lazy import is_lazy
from normcore.scaling.estimator import Estimator, Settings, not_fitted_error, sklearn_config
from normcore.scaling.features import Features, feature_indices
from normcore.scaling.fit_callbacks import learn_as_task
from normcore.scaling.input_validation import check_names, host_weights
from normcore.scaling.merging import where_mergeable
from normcore.scaling.metadata_routing import metadata_of
from normcore.scaling.scaler import Scaler

__all__ = ["ColumnScaler"]

#: A name, a scaler, and the columns that it takes.
Step: TypeAlias = tuple[str, Scaler, Features]


class ColumnScaler(Exporting, Estimator):
    """Scale columns by scalers of their own; all others pass through as they are.

    The result has all columns, in their order. That of a data frame is a frame of the same library,
    so that columns of text may stand beside those that are scaled; that of an array is an array.

    Parameters
    ----------
    transformers : sequence of (str, scaler, columns)
        A name for each scaler, and the columns that it takes: a list of names or of positions, a
        mask or a slice. No column is taken twice.

    Attributes
    ----------
    transformers_ : list of (str, scaler, int array)
        The fitted scalers, and where their columns are.
    named_transformers_ : dict of str to scaler
    n_features_in_ : int
    feature_names_in_ : array of str
        Where all columns have names.

    See Also
    --------
    normcore.recommend : Chooses the scalers.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> scaler = nc.ColumnScaler([("range", nc.MinMaxScaler(), [0])])
    >>> scaler.fit_transform(np.array([[1.0, 7.0], [3.0, 8.0]]))
    array([[0., 7.],
           [1., 8.]])
    """

    __module__ = "normcore"

    transformers_: list[tuple[str, Scaler, np.ndarray]]

    def __init__(self, transformers: Sequence[Step] = ()) -> None:
        self.transformers = transformers

    # -- parameters ------------------------------------------------------------------------

    def get_params(self, deep: bool = True) -> Settings:
        """Return the parameters by name; as for :meth:`normcore.StandardScaler.get_params`."""
        params = super().get_params(deep=False)
        if deep:
            for name, scaler, _ in _triples(self.transformers) or ():
                params[name] = scaler
                for key, value in scaler.get_params().items():
                    params[f"{name}__{key}"] = value
        return params

    def set_params(self, **params: object) -> Self:
        """Set parameters: ``transformers``, a scaler by its name, or ``name__parameter`` of it.

        As for :meth:`normcore.StandardScaler.set_params`, in errors too.
        """
        transformers = params.pop("transformers", self.transformers)
        steps = {name: (scaler, columns) for name, scaler, columns in _triples(transformers) or ()}
        replaced = steps.keys() & params.keys()
        for name in replaced:
            steps[name] = (cast(Scaler, params.pop(name)), steps[name][1])
        nested: dict[str, Settings] = {}
        for key, value in params.items():
            name, _, parameter = key.partition("__")
            known = steps[name][0].get_params() if name in steps else {}
            if parameter not in known:
                raise ValueError(
                    f"Invalid parameter {key!r} for estimator {self}. "
                    f"Valid parameters are: {sorted(self.get_params())!r}."
                )
            nested.setdefault(name, {})[parameter] = value
        if replaced:
            transformers = [(name, *step) for name, step in steps.items()]
        self.transformers = cast(Sequence[Step], transformers)
        for name, settings in nested.items():
            steps[name][0].set_params(**settings)
        return self

    # -- files -----------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save this with its fitted scalers as one JSON file; :func:`normcore.load` reads it.

        As for :meth:`normcore.StandardScaler.save`, in parameters and errors.
        """
        save_scaler(self, path)

    def to_dict(self) -> dict[str, object]:
        """Return this with its fitted scalers as JSON-able values and float64 arrays."""
        if not self.__sklearn_is_fitted__():
            raise not_fitted_error(self)
        names = getattr(self, "feature_names_in_", None)
        return column_files.described(self.transformers_, self.n_features_in_, names)

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """Return what :meth:`to_dict` described; columns are lists of names or of positions then.

        As for :meth:`normcore.StandardScaler.from_dict`.

        Raises
        ------
        ValueError
            If it is incomplete, or states what no fit has learned.
        """
        parts, num_features, names = column_files.restored(saved)
        scaler = cls([
            (name, type(part)(**part.get_params(deep=False)),
             places.tolist() if names is None else [names[place] for place in places])
            for name, part, places in parts
        ])  # fmt: skip
        scaler._steps()
        if names is not None:
            scaler.feature_names_in_ = np.asarray(names, dtype=object)
        scaler.n_features_in_, scaler.transformers_ = num_features, parts
        return scaler

    # -- fit and transform -----------------------------------------------------------------

    def fit(self, X: Array, y: Array = None, sample_weight: Array = None) -> Self:
        """Fit each scaler to its columns; after an error this is as it was.

        Parameters
        ----------
        X : array, data frame, sparse matrix or nested list of shape (n_samples, n_features)
        y : None
            Ignored.
        sample_weight : number or array-like of shape (n_samples,), optional
            Given to every scaler, each of which has to take it.

        Raises
        ------
        ValueError
            If there is no such column, two scalers take one, or one of them refuses its columns.
        TypeError
            If there are weights and a scaler takes none; the error names it.
        """
        metadata = {"sample_weight": sample_weight}
        learn_as_task(self, lambda: self._learn(X, sample_weight), X, y, metadata)
        return self

    @where_mergeable
    def partial_fit(self, X: Array, y: Array = None, sample_weight: Array = None) -> Self:
        """Learn from ``X`` too, by each scaler; there where all of them have ``partial_fit``.

        Parameters and errors are those of :meth:`fit`; other columns than before are a ValueError.
        """
        if not self.__sklearn_is_fitted__():
            return self.fit(X, y, sample_weight)
        weights = _weights_for(self.transformers_, sample_weight)
        parts = self._parts_of(X)
        learned = [
            (name, copying.copy(scaler), places) for name, scaler, places in self.transformers_
        ]
        for _, scaler, places in learned:
            with _numbered_as(parts, places):
                scaler.partial_fit(parts.columns(places), **weights)
        self.transformers_ = learned
        return self

    def _why_unmergeable(self) -> str | None:
        """Return which scaler cannot go on from what it learned; None where all can."""
        for name, scaler, _ in _triples(self.transformers) or ():
            if not hasattr(scaler, "partial_fit"):
                return f"{name!r}, a {type(scaler).__name__}, has no partial_fit here"
        return None

    def merge(self, other: Self) -> Self:
        """Learn what another one has learned, as a fit to the data of both would have.

        Parameters
        ----------
        other : ColumnScaler, fitted
            Of the same scalers and columns. Stays as it is.

        Raises
        ------
        ValueError
            If the two differ in scalers, parameters or columns, or a scaler has learned nothing
            that merges. This stays as it was.
        TypeError
            If ``other`` is of another class.
        NotFittedError
            If one of them is not fitted.
        """
        if type(other) is not type(self):
            raise TypeError(f"cannot merge {type(self).__name__} with {type(other).__name__}")
        for each in (self, other):
            if not each.__sklearn_is_fitted__():
                raise not_fitted_error(each)
        names = getattr(other, "feature_names_in_", None)
        check_names(getattr(self, "feature_names_in_", None), names, type(self).__name__)
        self._check_width(other.n_features_in_)
        mine, theirs = self.transformers_, other.transformers_
        if [(name, each.tolist()) for name, _, each in mine] != [
            (name, each.tolist()) for name, _, each in theirs
        ]:
            raise ValueError("cannot merge scalers of other names or columns")
        self.transformers_ = [
            (name, copying.copy(scaler).merge(more), places)
            for (name, scaler, places), (_, more, _) in zip(mine, theirs, strict=True)
        ]
        return self

    def _parts_of(self, X: Array) -> Parts:
        """Return a table of columns that are those of fit."""
        parts = Parts.of(X, type(self).__name__)
        check_names(getattr(self, "feature_names_in_", None), parts.names, type(self).__name__)
        self._check_width(parts.width)
        return parts

    def _learn(self, X: Array, sample_weight: Array) -> None:
        steps = self._steps()
        weights = _weights_for(steps, sample_weight)
        parts = Parts.of(X, type(self).__name__)
        if weights and not steps and parts.num_rows is not None:
            host_weights(sample_weight, parts.num_rows)  # which nobody else looks at
        labels = [f"x{i}" for i in range(parts.width)] if parts.names is None else parts.names
        fitted: list[tuple[str, Scaler, np.ndarray]] = []
        owners: dict[int, str] = {}
        for name, scaler, columns in steps:
            places = feature_indices(columns, labels, parts.width)
            for place in places.tolist():
                if owners.setdefault(place, name) != name:
                    raise ValueError(
                        f"column {labels[place]!r} is taken by {owners[place]!r} and by {name!r}"
                    )
            copy = type(scaler)(**scaler.get_params(deep=False))
            with _numbered_as(parts, places):
                copy.fit(parts.columns(places), **weights)
            fitted.append((name, copy, places))
        self.__dict__.pop("feature_names_in_", None)
        if parts.names is not None:
            self.feature_names_in_ = np.asarray(parts.names, dtype=object)
        self.n_features_in_, self.transformers_ = parts.width, fitted

    def _steps(self) -> Sequence[Step]:
        steps = _triples(self.transformers)
        if steps is None:
            raise ValueError(
                "transformers must be a sequence of (name, scaler, columns), not "
                f"{self.transformers!r:.200}"
            )
        names = [name for name, _, _ in steps]
        for name in names:
            if not isinstance(name, str) or "__" in name or name == "transformers":
                raise ValueError(f"{name!r} cannot be the name of a transformer")
            if names.count(name) > 1:
                raise ValueError(f"two transformers are named {name!r}")
        return steps

    @property
    def named_transformers_(self) -> dict[str, Scaler]:
        """The fitted scalers by name."""
        return {name: scaler for name, scaler, _ in self.transformers_}

    @property
    def keeps_zero(self) -> bool:
        """Whether zero maps to zero in every column: sparse input then stays sparse."""
        return all(scaler.keeps_zero for _, scaler, _ in _triples(self.transformers) or ())

    def transform(self, X: Array) -> Array:
        """Return ``X`` with its columns scaled.

        Parameters
        ----------
        X
            As for :meth:`fit`.

        Raises
        ------
        ValueError
            If ``X`` has other columns than in fit, or a scaler refuses them.
        NotFittedError
            If this is not fitted.
        """
        return self._mapped(X, inverse=False)

    def inverse_transform(self, X: Array) -> Array:
        """Return scaled data as it was; errors, and ``X``, as for :meth:`transform`."""
        return self._mapped(X, inverse=True)

    def _mapped(self, X: Array, *, inverse: bool) -> Array:
        if not self.__sklearn_is_fitted__():
            raise not_fitted_error(self)
        parts = self._parts_of(X)
        config = sklearn_config()
        if config.get("array_api_dispatch") and not is_frame(X):
            self._check_same_namespace(parts.table, "inverse_transform" if inverse else "transform")
        scaled = []
        for _, scaler, places in self.transformers_:
            scaler = copying.copy(scaler).set_output(transform=parts.container)
            part: Callable[[Array], Array] = (
                scaler.inverse_transform if inverse else scaler.transform
            )
            with _numbered_as(parts, places):
                scaled.append((places, part(parts.columns(places))))
        result = parts.replaced(scaled)
        chosen = self._output_container(config)
        if chosen == "default" or is_lazy(X) or (inverse and not is_frame(X)):
            return result
        return converted(result, chosen, list(self.get_feature_names_out()), X)


def _weights_for(steps: Sequence[Step], sample_weight: Array) -> dict[str, Array]:
    """Return the argument that gives weights to each scaler.

    Raises
    ------
    TypeError
        If a scaler takes none: what it learned would not be of the data as weighed.
    """
    if sample_weight is None:
        return {}
    for name, scaler, _ in steps:
        if "sample_weight" not in metadata_of(type(scaler), "fit"):
            raise TypeError(
                f"{name!r}, a {type(scaler).__name__}, takes no sample_weight; fit it by itself, "
                "without weights"
            )
    return {"sample_weight": sample_weight}


@contextmanager
def _numbered_as(parts: Parts, places: np.ndarray) -> Iterator[None]:
    """Have errors of a scaler, which sees some columns, number them as the whole table does."""
    number = r"(?<=\bcolumn )\d+\b" if parts.names is None else r"(?<=\(index )\d+(?=\))"

    def place(found: re.Match[str]) -> str:
        return str(places[int(found[0])]) if int(found[0]) < len(places) else found[0]

    try:
        yield
    except ValueError as error:
        text = re.sub(number, place, str(error))
        if text == str(error):
            raise
        raise ValueError(text) from error


def _triples(transformers: object) -> list[Step] | None:
    """Return what may be fitted, None where it is no sequence of names, scalers and columns."""
    if not isinstance(transformers, Sequence) or isinstance(transformers, str):
        return None
    for each in transformers:
        triple = isinstance(each, Sequence) and not isinstance(each, str) and len(each) == 3
        if not triple or not hasattr(each[1], "get_params") or isinstance(each[1], type):
            return None
    return [(name, scaler, columns) for name, scaler, columns in transformers]
