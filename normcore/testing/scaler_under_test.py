"""The scaler that laws are about, in every form that its author names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest

from normcore.layout.namespace import Array

__all__ = ["ScalerUnderTest"]


class ScalerUnderTest:
    """What the laws of scalers share.

    Attributes
    ----------
    scaler : class or callable
        Returns a fresh scaler, unfitted.
    scalers : sequence of such, optional
        Several of them, as of other parameters: every law is then a test for each.
    dtypes : tuple
        Floating dtypes that are kept.
    registered : bool
        Whether the scaler has a name in the registry, which saved files need.
    invertible : bool
        Whether ``inverse_transform`` restores the data it was fitted to.
    array_api : bool
        Whether it takes arrays of other libraries than NumPy.
    by_rows : bool
        Whether what becomes of a row is the same whatever rows stand beside it.
    """

    scaler: ClassVar[Any]
    scalers: ClassVar[Sequence[Callable[[], Any]]] = ()
    dtypes: ClassVar[tuple[str, ...]] = ("float64", "float32")
    registered: ClassVar[bool] = True
    invertible: ClassVar[bool] = True
    array_api: ClassVar[bool] = True
    by_rows: ClassVar[bool] = True

    #: The one of ``scalers`` that a test is for.
    _chosen: Callable[[], Any] | None = None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make a test of each law for each of ``scalers``."""
        if self.scalers and "_choose" in metafunc.fixturenames:
            names = [repr(each()) for each in self.scalers]
            metafunc.parametrize("_choose", self.scalers, ids=names, indirect=True)

    @pytest.fixture(autouse=True)
    def _choose(self, request: pytest.FixtureRequest) -> None:
        self._chosen = getattr(request, "param", None)

    def make(self) -> Any:
        """Return a fresh scaler."""
        if self._chosen is not None:
            return self._chosen()
        if self.scalers:
            return self.scalers[0]()
        factory = inspect.getattr_static(type(self), "scaler")
        return getattr(factory, "__func__", factory)()

    def fitted(self, X: Array) -> Any:
        """Return a scaler fitted to X.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        """
        return self.make().fit(X)
