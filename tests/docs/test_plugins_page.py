"""docs/plugins.md: its examples run, its names exist."""

import re

import pytest
from page_examples import check_examples
from paths import ROOT

import normcore as nc
from normcore.registration import registrations

PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("error")
def test_examples():
    check_examples("plugins.md")


def test_names_exist():
    named = set(re.findall(r"`nc\.(\w+)", PAGE)) - {"pareto_scale"}
    assert {"AffineScaler", "Statistic", "InfiniteInput", "nonconstant"} <= named
    for name in named:
        assert hasattr(nc, name), name


def test_methods_of_the_registry_exist():
    for name in set(re.findall(r"registry\.(\w+)\(", PAGE)):
        assert callable(getattr(nc.Registry, name)), name


def test_scalers_that_are_said_to_have_kernels_have_them():
    kernels = {row.name for row in registrations() if row.kind == "kernel"}
    for name in ("power", "quantile"):
        assert {name, f"{name}_inverse"} <= kernels
