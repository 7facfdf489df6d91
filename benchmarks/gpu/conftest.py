"""Ready the backend before anything is collected; without a device there is nothing to test."""

from __future__ import annotations

import os

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
