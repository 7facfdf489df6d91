"""scikit-learn's own checks of an estimator, every one of them."""

from importlib.util import find_spec

import pytest
from processes import run_python
from releases import is_older

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
# Checks of sparse data that scikit-learn 1.6 runs on estimators whose tags say that they take none.
REFUSED = {"check_sample_weight_equivalence_on_sparse_data": "zeros would not stay zeros"}


@pytest.mark.filterwarnings(NOT_ITS_CHILD, FEW_SAMPLES)
@pytest.mark.parametrize("cls", SCALERS)
def test_check_estimator_expects_no_failure(cls):
    centers = cls in (nc.StandardScaler, nc.RobustScaler)
    refused = REFUSED if centers and is_older("scikit-learn", "1.7") else {}
    results = check_estimator(cls(), expected_failed_checks=refused, on_skip=None)
    assert len(results) > 40
    named = {status: [] for status in ("passed", "skipped", "xfail")}
    for result in results:
        named[result["status"]].append(result["check_name"])
    assert named["xfail"] == list(refused)
    # Only what needs another environment is skipped.
    frames = {"check_sample_weights_pandas_series"} if find_spec("pandas") is None else set()
    assert all("array_api" in name for name in {*named["skipped"]} - frames)


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
