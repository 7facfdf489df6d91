"""What a third party's test suite looks like."""

from normcore_outside.scaler import UnitRangeScaler

from normcore.testing import BackendConformance, ScalerConformance


class TestOutsideBackend(BackendConformance):
    backend = "outside"


class TestUnitRangeScaler(ScalerConformance):
    scaler = UnitRangeScaler
