"""The laws of exports hold for the scalers there are, and fail where a map is not what it says."""

import numpy as np
import pytest
from faulty import check

import normcore as nc
from normcore.testing import ExportConformance


class Halves(nc.AffineScaler):
    statistic = nc.Moments

    def affine(self, moments):
        return nc.Affine(center=moments.mean, scale=moments.std(), gamma=0.5, beta=0.1)

    def bounds(self):
        return (-0.3, 0.7)


class TestScalersOfTheCore(ExportConformance):
    scalers = (
        nc.StandardScaler,
        lambda: nc.MinMaxScaler((-1.1, 1.3), clip=True),
        nc.RobustScaler,
    )


class TestScalersOfPlugins(ExportConformance):
    scalers = (nc.MaxAbsScaler, lambda: nc.PercentileScaler(clip="hard"), Halves)


class OtherMap(Halves):
    """Computes something else than its coefficients say, by a way that is not public."""

    def _map(self, backend, x, out, inverse, where=None, chosen=None):
        return super()._map(backend, x, out, inverse, where, chosen) * np.float64(1 + 2**-50)


class OtherClip(Halves):
    def _map_of(self, x):
        affine, _ = super()._map_of(x)
        return (affine, None) if x.shape[0] == 0 else (affine, (-0.1, 0.1))


class OwnTransform(nc.StandardScaler):
    def transform(self, X):
        return np.abs(super().transform(X))


@pytest.mark.parametrize("faulty", [OtherMap, OtherClip, OwnTransform])
def test_a_map_that_is_not_what_it_says_is_caught(faulty):
    class Laws(ExportConformance):
        scaler = faulty

    with pytest.raises((AssertionError, TypeError)):
        check(Laws(), "test_exports_say_what_transform_does")
