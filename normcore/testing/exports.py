# ruff: noqa: D102  (the laws are named by what they say)
"""What exports of an affine scaler promise, as tests beside those of every scaler."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import assume, given

from normcore.export.column_map import ColumnMap, column_map
from normcore.testing.scaler_under_test import ScalerUnderTest
from normcore.testing.strategies import laws, tables

__all__ = ["ExportConformance"]


class ExportConformance(ScalerUnderTest):
    """The laws of exports, of scalers that are affine; alone or beside ScalerConformance.

    Every format says center, scale, gamma, beta and bounds of the map. So an export is right where
    these numbers are, which needs no other library.

    Attributes
    ----------
    scaler, scalers
        As of :class:`~normcore.testing.scaler_under_test.ScalerUnderTest`.

    Examples
    --------
    >>> import normcore as nc
    >>> from normcore.testing import ExportConformance, ScalerConformance
    >>> class TestMaxAbsScaler(ExportConformance, ScalerConformance):
    ...     scaler = nc.MaxAbsScaler
    """

    @laws
    @given(X=tables())
    def test_exports_say_what_transform_does(self, X: np.ndarray) -> None:
        scaler = self.fitted(X)
        with np.errstate(all="ignore"):
            _check_bits(_numbers(scaler, X, inverse=False), X, scaler.transform(X))

    @laws
    @given(X=tables())
    def test_exports_of_the_inverse_say_what_it_does(self, X: np.ndarray) -> None:
        scaler = self.fitted(X)
        with np.errstate(all="ignore"):
            Y = scaler.transform(X)
            _check_bits(_numbers(scaler, X, inverse=True), Y, scaler.inverse_transform(Y))

    def test_text_formats_take_the_scaler(self) -> None:
        scaler = self.fitted(np.arange(12.0).reshape(6, 2))
        assert scaler.export("sql", table="t").startswith("SELECT")
        assert "scaler_transform" in scaler.export("c")


def _numbers(scaler: Any, X: np.ndarray, *, inverse: bool) -> ColumnMap:
    """Return the exported numbers; a ValueError says that there are none, of huge values."""
    try:
        return column_map(scaler, "numbers", dtype=X.dtype, inverse=inverse)
    except ValueError as error:
        assume("near the largest float64" not in str(error))
        raise


def _check_bits(maps: ColumnMap, X: np.ndarray, expected: np.ndarray) -> None:
    """Compare what a format computes of the numbers with a result."""
    center, scale, gamma, beta = maps.coefficients
    y = ((X.astype(np.float64) - center) / scale) * gamma + beta
    if maps.bounds is not None:
        y = np.clip(y, *maps.bounds)
    found = y.astype(expected.dtype)
    np.testing.assert_array_equal(found, expected)
    signs = ~np.isnan(found)
    np.testing.assert_array_equal(np.signbit(found)[signs], np.signbit(expected)[signs])
