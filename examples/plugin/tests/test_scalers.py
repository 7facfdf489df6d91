"""What every scaler promises, run on those of this distribution."""

from normcore_example import GeometricScaler, RootMeanSquareScaler, SignedRootScaler

from normcore.testing import ScalerConformance


class TestRootMeanSquare(ScalerConformance):
    scaler = RootMeanSquareScaler


class TestSignedRoot(ScalerConformance):
    scaler = SignedRootScaler


class TestGeometric(ScalerConformance):
    scaler = GeometricScaler
