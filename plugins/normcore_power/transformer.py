"""PowerTransformer, which makes features more like a normal distribution by a power."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any, ClassVar, Self

import numpy as np

import normcore as nc
from normcore_power import array_form, sklearn_form
from normcore_power.estimation import PowerCurves, curves_of_columns, not_positive_error

__all__ = ["PowerTransformer"]

METHODS = ("yeo-johnson", "box-cox")


class PowerTransformer(nc.WeightedScaler, nc.PointwiseScaler):
    """Raise each feature to a power that makes it more like a normal distribution.

    Parameters
    ----------
    method : {"yeo-johnson", "box-cox"}, default="yeo-johnson"
        The family of maps; Box-Cox takes positive values alone.
    standardize : bool, default=True
        Subtract the mean of what is mapped, and divide it by the standard deviation.
    copy : bool, default=True
        False writes the result into the input where that is a writable float array.
    backend : str or Backend, optional
        The backend to use whatever the data; by default the one that fits it.
    axis : "columns", int, tuple of int or None, default="columns"
        The axes whose positions have a power of their own, of arrays of any number of dimensions;
        None makes everything one feature. By default ``X`` is a table.

    Attributes
    ----------
    lambdas_ : float64 array of shape (n_features,)
        The most likely power of each feature; 1 for a constant one. Others that are assigned take
        effect, with the mean and the standard deviation of those that were learned.
    n_samples_seen_, n_features_in_ : int
    feature_names_in_ : array of str of shape (n_features,)
        Where ``X`` named its columns.

    Notes
    -----
    Samples of ``sample_weight`` w count as w samples would: in the likelihood, and in mean and
    standard deviation.

    With ``standardize``, the map is measured from within the data, so that data far from zero and
    close together keep their digits whatever lambda is; scikit-learn maps such to zeros. For
    Yeo-Johnson lambda is sought where 20 times the largest value could be mapped, for Box-Cox where
    the data can be, as SciPy does. Values of which nothing is the map become NaN in the inverse.

    Examples
    --------
    >>> import normcore as nc
    >>> import numpy as np
    >>> X = np.random.default_rng(0).lognormal(size=(500, 1))
    >>> nc.PowerTransformer(method="box-cox").fit(X).lambdas_.round(1) + 0.0  # a logarithm, nearly
    array([0.])
    """

    statistic = PowerCurves
    sklearn_class = "sklearn.preprocessing.PowerTransformer"
    coefficients: ClassVar[Mapping[str, str]] = {"lambdas_": "power"}
    kernel = "power"
    mergeable = False  # the most likely lambda is a function of all the data

    lambdas_: Any

    def __init__(
        self,
        method: str = "yeo-johnson",
        *,
        standardize: bool = True,
        copy: bool = True,
        backend: str | nc.Backend | None = None,
        axis: int | tuple[int, ...] | str | None = "columns",
    ) -> None:
        self.method = method
        self.standardize = standardize
        self.copy = copy
        self.backend = backend
        self.axis = axis

    def check_parameters(self) -> None:
        """Refuse parameters that make no sense."""
        if self.method not in METHODS:
            raise ValueError(f"method must be 'yeo-johnson' or 'box-cox', got {self.method!r}")
        if not isinstance(self.standardize, bool | np.bool_):
            raise ValueError(f"standardize must be True or False, got {self.standardize!r}")

    def observe(self, backend: nc.Backend, x: Any, *, weights: Any = None) -> PowerCurves:
        """Return the most likely maps of a view, skipping NaN and positions of weight 0.

        Parameters
        ----------
        backend, x, weights
            As for :meth:`normcore.AffineScaler.observe`.
        """
        host = np.asarray(backend.release(x, np.empty(0)))
        columns = host.transpose(0, 2, 1).reshape(-1, host.shape[1])
        counts = None
        if weights is not None:
            given = np.asarray(backend.release(weights, np.empty(0)), np.float64).reshape(-1)
            columns, counts = columns[given > 0], given[given > 0]
            counts = counts / counts.max(initial=0.0)
            counts = None if (counts == 1.0).all() else counts
        return curves_of_columns(
            columns,
            plus_one=self._plus_one,
            standardize=bool(self.standardize),
            weights=counts,
        )

    def prepare(self, curves: PowerCurves) -> None:
        """Set the lambdas.

        Parameters
        ----------
        curves : PowerCurves
            What :meth:`observe` returned, or several of it merged, on the host.
        """
        self.lambdas_ = np.array(curves.parameters[:, 0])
        self._curves = curves

    @property
    def _plus_one(self) -> bool:
        return self.method == "yeo-johnson"

    @classmethod
    def from_sklearn(cls, estimator: Any, **params: Any) -> Self:
        """Return a transformer of what scikit-learn's has learned.

        Parameters
        ----------
        estimator, **params
            As for :meth:`normcore.AffineScaler.from_sklearn`.
        """
        return sklearn_form.read(cls(**params), estimator)

    def sklearn_attributes(self) -> Mapping[str, Any]:
        """Return the fitted attributes of scikit-learn's transformer."""
        return sklearn_form.attributes(self, self._parameters())

    # -- transforming ----------------------------------------------------------------------

    def check_domain(self, xp: ModuleType, x: Any, inverse: bool) -> None:
        """Refuse values that are not positive, for Box-Cox.

        Parameters
        ----------
        xp, x, inverse
            As for :meth:`normcore.PointwiseScaler.check_domain`.
        """
        if self._plus_one or inverse:
            return
        bad = xp.any(x <= 0, axis=0)
        if bool(xp.any(bad)):
            raise not_positive_error(int(xp.argmax(xp.astype(bad, xp.int8))))

    def forward(self, xp: ModuleType, x: Any) -> Any:
        """Return the powers of values, standardized.

        Parameters
        ----------
        xp, x
            As for :meth:`normcore.PointwiseScaler.forward`.
        """
        return array_form.forward(xp, x, self._parameters(), self._plus_one)

    def inverse(self, xp: ModuleType, x: Any) -> Any:
        """Return what has these powers.

        Parameters
        ----------
        xp, x
            As for :meth:`normcore.PointwiseScaler.forward`.
        """
        return array_form.inverse(xp, x, self._parameters(), self._plus_one)

    def kernel_arguments(self) -> tuple[np.ndarray, bool]:
        """Return what is known of each feature, and whether it is Yeo-Johnson."""
        return self._parameters(), self._plus_one

    def _parameters(self) -> np.ndarray:
        """Return what is known of each feature, with the lambdas that are set now."""
        if "_curves" not in self.__dict__:  # lambdas were assigned, and there was no fit
            if self.standardize:
                raise ValueError(
                    "lambdas_ are all that is known of this PowerTransformer, which was never "
                    "fitted: set standardize=False, or call fit"
                )
            given = self.numbers_now("lambdas_", np.empty(0)).reshape(-1)
            return PowerCurves.of_lambdas(given, plus_one=self._plus_one)
        curves = self._curves
        lambdas = self.numbers_now("lambdas_", curves.parameters[:, 0]).reshape(-1)
        if lambdas.size != len(curves.parameters):
            raise ValueError(f"lambdas_ must hold {len(curves.parameters)} numbers")
        return curves.with_lambdas(lambdas, plus_one=self._plus_one)
