"""Ready the backend before anything is collected; without a device there is nothing to test."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import settings

from benchmarks.gpu import common

common.backend()

# Fewer examples than on the host, where kernels' logic is tested; a device's time is short. Before
# the laws are imported, which take the profile that there is.
settings.register_profile(
    "device",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=int(os.environ.get("NORMCORE_EXAMPLES", "12")),
)
settings.load_profile("device")

#: Tests in the order of their worth, by a part of their names.
ORDER = (
    "test_modules", "test_torch", "32_bits", "streams", "same_bits", "TestOnDevice", "every_dtype",
    "test_", "TestStandard", "TestMinMax", "TestRobust", "TestOnHost",
)  # fmt: skip


# The tree comes last on the path, as in benchmarks/gpu.sh: what is installed is tested.
_PYTEST = "import sys, pytest; sys.path.append({!r}); sys.exit(pytest.main(sys.argv[1:]))"
#: Set in the process of a single test.
ALONE = "NORMCORE_ALONE"


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker."""
    config.addinivalue_line(
        "markers",
        "own_process: a failure leaves PyTorch unusable, as a capture that is lost does, and must "
        "not be that of the tests that follow",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is marked so in a process of its own."""
    if pyfuncitem.get_closest_marker("own_process") is None or ALONE in os.environ:
        return None
    config = pyfuncitem.config
    done = subprocess.run(
        [
            sys.executable, "-P", "-c", _PYTEST.format(str(config.rootpath)),
            "-q", "-p", "no:cacheprovider", "--tb=short",
            "-o", "filterwarnings=default", "--rootdir", str(config.rootpath),
            "-c", str(config.inipath), str(config.rootpath / pyfuncitem.nodeid),
        ],
        env=os.environ | {ALONE: "1"}, cwd=config.rootpath, timeout=55,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.fail(done.stdout + done.stderr, pytrace=False)
    return True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first what only a device shows: a run may end before all is done."""

    def worth(item: pytest.Item) -> int:
        classes = [name for name in ORDER if name.startswith("Test") and name in item.nodeid]
        return ORDER.index(classes[0] if classes else next(n for n in ORDER if n in item.nodeid))

    items.sort(key=worth)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Print a failure as it comes: a run that is ended has no summary."""
    if report.failed:
        print(f"\n-- {report.nodeid}\n{report.longreprtext}", flush=True)
