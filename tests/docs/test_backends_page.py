"""docs/backends.md and docs/conformance.md are true: examples run, what is named is there."""

import inspect
import re

import pytest
from page_examples import check_examples
from paths import ROOT

import normcore as nc
from normcore.testing.scaler_under_test import ScalerUnderTest
from normcore.testing.under_test import BackendUnderTest

BACKENDS = (ROOT / "docs" / "backends.md").read_text(encoding="utf-8")
CONFORMANCE = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["backends.md", "conformance.md"])
def test_examples(page):
    check_examples(page)


def test_every_method_that_a_backend_must_have_is_there():
    for name in nc.Backend.__abstractmethods__:
        assert f"`{name}(" in BACKENDS, name


@pytest.mark.parametrize("name", sorted(nc.Backend.__abstractmethods__))
def test_signatures_are_those_of_the_class(name):
    (written,) = set(re.findall(rf"`{name}(\([^`]*\))`", BACKENDS))
    signature = inspect.signature(getattr(nc.Backend, name))
    parameters = list(signature.parameters.values())[1:]
    expected = [
        inspect.Parameter(each.name, each.kind, default=each.default) for each in parameters
    ]
    assert written == str(inspect.Signature(expected))


def test_optional_methods_exist():
    section = BACKENDS.partition("## What may be overridden")[2].partition("##")[0]
    named = re.findall(r"`(\w+)`", section.partition("have defaults")[0])
    assert len(named) > 5
    for name in named:
        assert not getattr(getattr(nc.Backend, name), "__isabstractmethod__", False), name


@pytest.mark.parametrize("kit", [ScalerUnderTest, BackendUnderTest])
def test_options_of_the_kit_are_listed(kit):
    public = {name for name in kit.__annotations__ if not name.startswith("_")}
    listed = set(re.findall(r"^\| `(\w+)` \|", CONFORMANCE, re.MULTILINE))
    assert public <= listed
