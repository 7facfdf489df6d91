"""scikit-learn's protocol, all of it, without importing scikit-learn.

scikit-learn is touched only where its own code asks (tags, metadata routing) or where it is
loaded already (its NotFittedError, its configuration, its HTML diagrams).
"""

from __future__ import annotations

import html
import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any, Self, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np

from normcore.layout.namespace import Array
from normcore.scaling import input_validation
from normcore.scaling.containers.frame_output import CONTAINERS
from normcore.scaling.features import Features, feature_indices
from normcore.scaling.fit_callbacks import set_callbacks
from normcore.scaling.input_validation import Names
from normcore.scaling.metadata_routing import RequestMethod, metadata_request

__all__ = ["Estimator", "not_fitted_error", "parameters_of", "sklearn_config"]

#: Values of any type by name: parameters, or the configuration of scikit-learn.
Settings: TypeAlias = dict[str, Any]

_get_config: Callable[[], Settings] | None = None  # scikit-learn's, for good once that is loaded


def sklearn_config() -> Settings:
    """Return scikit-learn's configuration, empty where it is not loaded."""
    global _get_config
    if _get_config is None:
        _get_config = getattr(sys.modules.get("sklearn"), "get_config", None)
        if _get_config is None:
            return {}
    return _get_config()


class NotFittedError(ValueError, AttributeError):
    """The scaler was used before it was fitted; scikit-learn's own class where it is loaded."""

    __module__ = "normcore"


def not_fitted_error(estimator: object) -> Exception:
    """Return the error of an estimator that is used before it is fitted."""
    exceptions = sys.modules.get("sklearn.exceptions")
    error = getattr(exceptions, "NotFittedError", NotFittedError)
    return error(
        f"This {type(estimator).__name__} instance is not fitted yet. Call 'fit' with appropriate "
        "arguments before using this estimator."
    )


#: Parameters of the classes seen so far, which may be defined in functions and go.
_known_parameters: WeakKeyDictionary[type, Settings] = WeakKeyDictionary()


def parameters_of(cls: type) -> Settings:
    """Return the constructor's parameters and their defaults, in order of definition."""
    found = _known_parameters.get(cls)
    if found is None:
        found = _known_parameters[cls] = _inspected(cls)
    return found


def _inspected(cls: type) -> Settings:
    found: Settings = {}
    constructor = inspect.getattr_static(cls, "__init__")
    if constructor is object.__init__:
        return found
    for name, parameter in inspect.signature(constructor).parameters.items():
        if name == "self" or parameter.kind is parameter.VAR_KEYWORD:
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            raise RuntimeError(
                f"{cls.__name__}.__init__ takes *{name}; a scaler names its parameters explicitly"
            )
        found[name] = parameter.default
    return found


class Estimator:
    """Parameters, feature names, output containers, routing and display of a scaler.

    A subclass lists its parameters in ``__init__`` and stores each under its own name, unchanged.
    Fitted attributes end with an underscore.
    """

    n_features_in_: int
    feature_names_in_: np.ndarray
    _metadata_request: object
    #: Whose arrays it was fitted to.
    _library: str = "numpy"

    #: Of the subclass.
    fit: Callable[..., Self]
    transform: Callable[..., Array]

    # -- parameters ------------------------------------------------------------------------

    def get_params(self, deep: bool = True) -> Settings:
        """Return the parameters by name.

        Parameters
        ----------
        deep : bool
            Include the parameters of parameters that are estimators, as ``name__parameter``.
        """
        params = {}
        for name in sorted(parameters_of(type(self))):
            params[name] = value = getattr(self, name)
            if deep and hasattr(value, "get_params") and not isinstance(value, type):
                params.update({f"{name}__{key}": v for key, v in value.get_params().items()})
        return params

    def set_params(self, **params: object) -> Self:
        """Set parameters by name; none is set where one is unknown.

        Parameters
        ----------
        **params
            New values by name; ``name__parameter`` is the parameter of a parameter.

        Raises
        ------
        ValueError
            If a name is no parameter.
        """
        own = parameters_of(type(self))
        for key in params:
            name, nested, _ = key.partition("__")
            if name not in own or (nested and not hasattr(getattr(self, name), "set_params")):
                raise ValueError(
                    f"Invalid parameter {key!r} for estimator {self}. "
                    f"Valid parameters are: {sorted(own)!r}."
                )
        for key, value in params.items():
            name, nested, rest = key.partition("__")
            if nested:
                getattr(self, name).set_params(**{rest: value})
            else:
                setattr(self, name, value)
        return self

    # -- display ---------------------------------------------------------------------------

    def __repr__(self) -> str:
        defaults = parameters_of(type(self))
        changed = [
            f"{name}={getattr(self, name, None)!r}"
            for name, default in defaults.items()
            if repr(getattr(self, name, None)) != repr(default)
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def _repr_html_(self) -> str | None:
        if sklearn_config().get("display", "diagram") != "diagram":
            return None  # notebooks then show the plain text
        utils = sys.modules.get("sklearn.utils")
        if utils is not None:
            return str(utils.estimator_html_repr(self))
        return f"<pre>{html.escape(repr(self))}</pre>"

    # -- fitted or not, tags ---------------------------------------------------------------

    @property
    def keeps_zero(self) -> bool:
        """Whether zero maps to zero, whatever was learned: sparse input then stays sparse."""
        return False

    def _check_sparse(self, *, inverse: bool) -> None:
        """Refuse sparse input where zeros would not stay zeros."""
        if not self.keeps_zero:
            raise TypeError(
                f"{type(self).__name__} does not support sparse input: dense data is required. "
                "Use '.toarray()' to convert it to a dense NumPy array."
            )

    def __sklearn_is_fitted__(self) -> bool:
        return "n_features_in_" in self.__dict__

    def __sklearn_tags__(self) -> Any:
        utils = importlib.import_module("sklearn.utils")
        return utils.Tags(
            estimator_type="transformer",
            target_tags=utils.TargetTags(required=False),
            transformer_tags=utils.TransformerTags(
                preserves_dtype=["float64", "float32", "float16"]
            ),
            input_tags=utils.InputTags(allow_nan=True, sparse=self.keeps_zero),
            array_api_support=True,
        )

    # -- feature names ---------------------------------------------------------------------

    def get_feature_names_out(self, input_features: Array = None) -> np.ndarray:
        """Return the names of the output's features, which are those of the input.

        Parameters
        ----------
        input_features : array-like of str, optional
            Must equal ``feature_names_in_`` where that is known. By default the names seen in
            fit, or ``x0``, ``x1``, ...

        Raises
        ------
        ValueError
            If ``input_features`` has another length or other names.
        NotFittedError
            If the scaler is not fitted.
        """
        if not self.__sklearn_is_fitted__():
            raise not_fitted_error(self)
        seen = getattr(self, "feature_names_in_", None)
        if input_features is None:
            if seen is not None:
                return np.asarray(seen)
            return np.asarray([f"x{i}" for i in range(self.n_features_in_)], dtype=object)
        names = np.asarray(input_features, dtype=object)
        if seen is not None and not np.array_equal(seen, names):
            raise ValueError("input_features is not equal to feature_names_in_")
        if len(names) != self.n_features_in_:
            raise ValueError(
                "input_features should have length equal to number of features "
                f"({self.n_features_in_}), got {len(names)}"
            )
        return names

    def _check_features(self, X: Array, names: Names | None) -> None:
        """Refuse an ``X`` whose width or names are not those seen in fit."""
        input_validation.check_names(
            getattr(self, "feature_names_in_", None), names, type(self).__name__
        )
        self._check_width(X.shape[1])

    def _check_width(self, num_features: int) -> None:
        if num_features != self.n_features_in_:
            raise ValueError(
                f"X has {num_features} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )

    def _feature_indices(self, columns: Features) -> np.ndarray:
        if "_features" in self.__dict__:
            raise ValueError("columns= is for tables: axis='columns'")
        return feature_indices(columns, self.get_feature_names_out(), self.n_features_in_)

    def _check_given(
        self, X: Array, names: Names | None, inverse: bool, chosen: np.ndarray | None
    ) -> None:
        """Refuse an ``X`` that does not hold the chosen features, by default all.

        Scaled data may have names of its own; where it has those seen in fit, they say what it is.
        """
        if not inverse:
            self._check_features(X, names)
            return
        if chosen is None:
            self._check_width(X.shape[1])
        elif X.shape[1] != chosen.size:
            raise ValueError(f"X has {X.shape[1]} columns, but columns names {chosen.size}")
        seen = getattr(self, "feature_names_in_", None)
        if names is not None and seen is not None and not set(seen).isdisjoint(names):
            expected = seen if chosen is None else seen[chosen]
            input_validation.check_names(expected, names, type(self).__name__)

    # -- output containers -----------------------------------------------------------------

    def set_output(self, *, transform: str | None = None) -> Self:
        """Choose the container that ``transform`` and ``fit_transform`` return.

        Parameters
        ----------
        transform : {"default", "pandas", "polars", "pyarrow"}, optional
            None leaves the choice as it is. Once a frame is chosen, ``inverse_transform`` of a
            frame returns a frame too, of the library of its input.

        Raises
        ------
        ValueError
            If the container is unknown.
        """
        if transform is None:
            return self
        if transform not in CONTAINERS:
            raise ValueError(f"output config must be in {sorted(CONTAINERS)}, got {transform!r}")
        self._sklearn_output_config = {"transform": transform}
        return self

    def _output_container(self, config: Settings) -> str:
        """Return the container that the user, or scikit-learn, chose for results."""
        chosen = self.__dict__.get("_sklearn_output_config")
        if chosen is None:
            container = config.get("transform_output", "default")
        else:
            container = chosen.get("transform", "default")
        if container == "default":
            return "default"
        if container not in CONTAINERS:
            raise ValueError(f"output config must be in {sorted(CONTAINERS)}, got {container!r}")
        return container

    def _check_same_namespace(self, values: Array, method: str) -> None:
        """Refuse NumPy arrays after a fit to those of another library.

        scikit-learn's checks demand this of estimators where its ``array_api_dispatch`` is on. All
        else goes, as its RFC 34604 has it: fitted on one device, used on another.
        """
        if isinstance(values, np.ndarray) and self._library != "numpy":
            raise ValueError(
                f"Inputs passed to {type(self).__name__}.{method}() must use the same namespace "
                f"and the same device as those passed to fit() while scikit-learn's "
                f"array_api_dispatch is on. The namespaces used during fit ({self._library}) and "
                f"{method} (numpy) differ."
            )

    # -- callbacks -------------------------------------------------------------------------

    def set_callbacks(self, *callbacks: object) -> Self:
        """Set the callbacks of scikit-learn 1.9 whose hooks are called in fit; none removes them.

        Parameters
        ----------
        *callbacks
            Objects of scikit-learn's callback protocol.

        Raises
        ------
        ImportError
            If scikit-learn is missing or older.
        TypeError
            If one does not follow its protocol.
        """
        set_callbacks(self, callbacks)
        return self

    # -- metadata routing ------------------------------------------------------------------

    set_fit_request = RequestMethod("fit")
    set_partial_fit_request = RequestMethod("partial_fit")
    set_transform_request = RequestMethod("transform")
    set_inverse_transform_request = RequestMethod("inverse_transform")

    def get_metadata_routing(self) -> Any:
        """Return scikit-learn's ``MetadataRequest``: which methods take which metadata."""
        return metadata_request(self)

    def fit_transform(self, X: Array, y: Array = None, **fit_params: object) -> Array:
        """Fit to ``X`` and return it transformed.

        Parameters
        ----------
        X, y
            As for :meth:`fit`.
        **fit_params
            More of what :meth:`fit` takes; ``where`` goes to ``transform`` too.
        """
        self.fit(X, y, **fit_params)
        where = fit_params.get("where")
        return self.transform(X) if where is None else self.transform(X, where=where)
