"""The conformance kit: what every backend and every scaler promises, as tests to inherit.

>>> from normcore.testing import BackendConformance, ScalerConformance
>>> class TestMine(BackendConformance):
...     backend = "mine"
>>> class TestMyScaler(ScalerConformance):
...     scaler = MyScaler

Needs pytest and hypothesis: ``pip install normcore-arrays[testing]``.
"""

from normcore.package.needed_library import needed

with needed("normcore.testing needs {}", "testing", "hypothesis", "pytest"):
    import hypothesis  # noqa: F401
    import pytest

pytest.register_assert_rewrite(
    "normcore.testing.arrays",
    "normcore.testing.backend",
    "normcore.testing.batches",
    "normcore.testing.checks",
    "normcore.testing.exports",
    "normcore.testing.rows",
    "normcore.testing.scaler",
    "normcore.testing.scaler_use",
    "normcore.testing.sharing",
)

from normcore.testing.backend import BackendConformance  # noqa: E402
from normcore.testing.exact import exact_moments, ulp_error  # noqa: E402
from normcore.testing.exports import ExportConformance  # noqa: E402
from normcore.testing.scaler import ScalerConformance  # noqa: E402

__all__ = [
    "BackendConformance",
    "ExportConformance",
    "ScalerConformance",
    "exact_moments",
    "ulp_error",
]
