"""The kit looks at all that the plugin of a scaler or backend registers."""

from __future__ import annotations

import re
import sys
import types

import pytest
from discovery import make_plugin, more_discovery

import normcore as nc
from normcore.array_backend.reference import ReferenceBackend
from normcore.testing import BackendConformance, ScalerConformance


class Unnamed(nc.AffineScaler):
    statistic = nc.Moments

    def affine(self, moments):
        return nc.Affine(center=moments.mean)


class Mine(Unnamed):
    pass


class Engine(ReferenceBackend):
    name = "of_kit_tests"


class NoScaler:
    pass


def made_on_demand(name):
    if name == "Lacking":
        raise ModuleNotFoundError("there is no hdf99", name="hdf99.core")
    raise AttributeError(name)


@pytest.fixture
def later(monkeypatch):
    """Return a function that registers Mine, Engine and more, all of a module of later."""
    more_discovery(monkeypatch)

    def register(*lines):
        nc.register(
            make_plugin(
                "registry.scaler('of_kit_tests', 'later_of_tests.sub:Mine')",
                "registry.backend('of_kit_tests', 'later_of_tests.sub:Engine')",
                *lines,
            )
        )
        module = types.ModuleType("later_of_tests.sub")
        module.__getattr__ = made_on_demand
        vars(module).update(Mine=Mine, Engine=Engine, number=42, Plain=int)
        monkeypatch.setitem(sys.modules, "later_of_tests", types.ModuleType("later_of_tests"))
        monkeypatch.setitem(sys.modules, "later_of_tests.sub", module)

    return register


def kits():
    return [
        type("Kit", (ScalerConformance,), {"scaler": Mine})(),
        type("Kit", (BackendConformance,), {"backend": Engine()})(),
        type("Kit", (BackendConformance,), {"backend": "of_kit_tests"})(),
    ]


def test_a_sound_plugin_and_libraries_that_are_not_here(later):
    later("registry.source('.kit', 'later_of_tests.sub:Lacking')")
    for kit in kits():
        kit.test_its_plugin_is_usable()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("exporter('e', 'later_of_tests.sub:number')", "of exporter 'e' is not a callable but 42"),
        ("source('.e', 'later_of_tests.sub:Plain')", "of source '.e' is not a subclass of normcor"),
        ("function('e', 'later_of_tests.sub:misspelt')", "of function 'e' does not import"),
        ("engine('e', 'later_of_tests.misspelt:X')", "No module named 'later_of_tests.misspelt'"),
    ],
)
def test_faults_of_a_plugin(later, line, message):
    later(f"registry.{line}")
    for kit in kits():
        with pytest.raises(AssertionError, match=re.escape(message)):
            kit.test_its_plugin_is_usable()


@pytest.mark.parametrize(
    ("cls", "message"),
    [(Unnamed, "Unnamed is not registered: let a hook name it"), (NoScaler, "a scaler derives")],
)
def test_what_is_no_registered_scaler(cls, message):
    kit = type("Kit", (ScalerConformance,), {"scaler": cls})()
    with pytest.raises(AssertionError, match=message):
        kit.test_its_plugin_is_usable()
