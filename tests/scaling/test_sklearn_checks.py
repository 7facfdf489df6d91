"""scikit-learn's own checks of an estimator, every one of them."""

import pytest
from processes import run_python

import normcore as nc

pytest.importorskip("sklearn")

from sklearn.utils.estimator_checks import check_estimator

SCALERS = [
    nc.StandardScaler,
    nc.MinMaxScaler,
    nc.RobustScaler,
    nc.MaxAbsScaler,
    nc.Normalizer,
    nc.PercentileScaler,
    nc.QuantileTransformer,
    nc.PowerTransformer,
]
# scikit-learn says so of everyone who does not import it.
NOT_ITS_CHILD = "ignore:Estimator .* does not inherit from:UserWarning"
# As scikit-learn's own QuantileTransformer does.
FEW_SAMPLES = "ignore:n_quantiles .* is greater than the total number:UserWarning"


@pytest.mark.filterwarnings(NOT_ITS_CHILD, FEW_SAMPLES)
@pytest.mark.parametrize("cls", SCALERS)
def test_check_estimator_expects_no_failure(cls):
    results = check_estimator(cls(), expected_failed_checks={}, on_skip=None)
    assert len(results) > 40
    assert {result["status"] for result in results} <= {"passed", "skipped"}
    # Only what needs another environment is skipped.
    skipped = {result["check_name"] for result in results if result["status"] == "skipped"}
    assert all("array_api" in name for name in skipped)


# Its array-API checks need SCIPY_ARRAY_API set before SciPy is imported.
ARRAY_API = """
import sys
import normcore as nc
from sklearn.utils.estimator_checks import check_estimator

ran = 0
for name in NAMES:
    cls = getattr(nc, name)
    for result in check_estimator(cls(), on_skip=None, on_fail=None):
        if "cudaErrorInsufficientDriver" in str(result["exception"]):
            continue  # CuPy without a driver: scikit-learn could not make its own arrays
        if "array_api" in result["check_name"] and result["status"] != "skipped":
            ran += 1
            assert result["status"] == "passed", (cls, result["check_name"], result["exception"])
assert ran, "every check was skipped"
"""


def test_array_api_checks():
    pytest.importorskip("torch")
    pytest.importorskip("array_api_compat")
    names = [cls.__name__ for cls in SCALERS]
    run_python("-W", "ignore", "-c", f"NAMES = {names}\n{ARRAY_API}", SCIPY_ARRAY_API="1")
