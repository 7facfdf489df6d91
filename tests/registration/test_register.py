"""Registering plugins, by hosts and by discovery."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import operator
import re
import sys
import textwrap
import threading
import types
import warnings

import plugin_wheels as wheels
import pytest
from discovery import fresh_discovery, make_plugin
from normcore_maxabs import MaxAbsScaler
from processes import evaluate

import normcore as nc
from normcore import registration
from normcore.array_backend.reference import ReferenceBackend
from normcore.registration import discovery
from normcore.registration.registry import Plugin


@pytest.fixture
def fresh(monkeypatch):
    """Discovery as in a new process, without entry points."""
    fresh_discovery(monkeypatch)


# -- register ---------------------------------------------------------------------------


@pytest.mark.usefixtures("fresh")
def test_register_takes_a_module_or_an_object():
    nc.register(make_plugin("registry.scaler('hosted', 'normcore_maxabs:MaxAbsScaler')"))

    class Host:
        @nc.hookimpl
        def normcore_register(self, registry):
            registry.function("half", "operator:neg")

    host = Host()
    nc.register(host)
    nc.register(host)  # again changes nothing
    assert registration.scaler("hosted") is MaxAbsScaler
    assert registration.supplied("half") is operator.neg
    assert len([row for row in registration.registrations() if row.name == "half"]) == 1


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    "name",
    [
        "hookless",
        "unmarked",
        "callable",
        "misspelt",
        "arguments",
        "argumentless",
        "misnamed",
        "defaulted",
        "yielding",
        "awaiting",
        "raising",
        "malformed",
    ],
)
def test_register_raises_and_registers_nothing(name):
    source, message = wheels.BROKEN[name]
    module = types.ModuleType(f"normcore_{name}")
    exec(textwrap.dedent(source), module.__dict__)
    before = registration.registrations()
    with pytest.raises(nc.PluginError, match=re.escape(message)):
        nc.register(module)
    assert registration.registrations() == before
    module.normcore_register = make_plugin("registry.function('mended', 'a:b')").normcore_register
    vars(module).pop("normcore_regsiter", None)
    nc.register(module)  # nothing of the failure is left behind
    assert len(registration.registrations()) == len(before) + 1


@pytest.mark.usefixtures("fresh")
def test_register_refuses_a_name_that_is_taken():
    with pytest.raises(nc.PluginError, match="'standard' is already registered by plugin 'core'"):
        nc.register(make_plugin("registry.scaler('standard', 'a:B')"))
    nc.register(make_plugin("registry.scaler('mine', 'a:B')", name="first"))
    with pytest.raises(
        nc.PluginError, match=r"plugin 'second'.*already registered by plugin 'first'"
    ):
        nc.register(make_plugin("registry.scaler('mine', 'a:B')", name="second"))


FAULTS = [
    (
        "scaler('x', 'fractions:Fraction')",
        "of normcore.AffineScaler, normcore.PointwiseScaler or normcore.RowScaler",
    ),
    ("backend('x', 'fractions:Fraction')", "of normcore.Backend"),
    ("source('.x', 'fractions:Fraction')", "of normcore.io.TableSource"),
    ("engine('x', 'fractions:Fraction')", "of normcore.Engine"),
    ("source('.x', 'normcore.io:TableSource')", "source '.x' lacks batches"),
    ("function('x', 'sys:path')", "is not a callable but ["),
    ("kernel('x', 'sys:path', backend='reference')", "is not a callable but ["),
]
TARGET = re.compile(r"'([\w.]+):(\w+)'")


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(("line", "message"), FAULTS)
def test_loaded_targets_of_another_kind_are_refused_at_registration(line, message):
    importlib.import_module(TARGET.search(line)[1])
    before = registration.registrations()
    with pytest.raises(nc.PluginError, match=re.escape(message)) as caught:
        nc.register(make_plugin("registry.function('half', 'operator:neg')", f"registry.{line}"))
    assert str(caught.value).startswith("plugin 'hosted', registered by the application: the targ")
    assert registration.registrations() == before


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(("line", "message"), FAULTS)
def test_other_targets_of_another_kind_are_refused_at_first_use(line, message, monkeypatch):
    module, attribute = TARGET.search(line).groups()
    later = types.ModuleType("of_later")
    setattr(later, attribute, getattr(importlib.import_module(module), attribute))
    nc.register(make_plugin(f"registry.{line.replace(module, 'of_later', 1)}"))
    (mine,) = [each for each in discovery.catalog() if each.plugin.name == "hosted"]
    monkeypatch.setitem(sys.modules, "of_later", later)
    with pytest.raises(nc.PluginError, match=re.escape(message)) as caught:
        mine.resolve()
    assert str(caught.value).startswith("plugin 'hosted', registered by the application: ")
    ((_, error),) = [each for each in registration.checked() if each[0].name == mine.name]
    assert str(error) == str(caught.value)


@pytest.mark.usefixtures("fresh")
def test_nothing_is_imported_or_made_to_look_at_targets(monkeypatch):
    asked, lazy = [], types.ModuleType("lazy_of_tests")
    lazy.__getattr__ = asked.append
    monkeypatch.setitem(sys.modules, "lazy_of_tests", lazy)
    monkeypatch.setitem(sys.modules, "none_of_tests", None)  # as of an import that is blocked
    nc.register(
        make_plugin(
            "registry.scaler('lazy', 'lazy_of_tests:Later')",
            "registry.source('.none', 'none_of_tests:Later')",
            "registry.scaler('unloaded', 'this_is_no_module:Other')",
        )
    )
    assert {"lazy", ".none", "unloaded"} <= {row.name for row in registration.registrations()}
    assert "Later" not in asked


@pytest.mark.usefixtures("fresh")
def test_a_loaded_writer_that_is_none_is_refused():
    with pytest.raises(nc.PluginError, match="'sys:path' of exporter 'x' is not a callable"):
        nc.register(make_plugin("registry.exporter('x', 'operator:neg', writer='sys:path')"))


@pytest.mark.usefixtures("fresh")
def test_a_loaded_kernel_that_was_not_compiled_is_left_out_alone(monkeypatch):
    module = types.ModuleType("fallen_back")
    module.kernel = None
    monkeypatch.setitem(sys.modules, "fallen_back", module)
    kernel = "registry.kernel('k', 'fallen_back:kernel', backend='reference')"
    nc.register(make_plugin("registry.function('half', 'operator:neg')", kernel))
    with pytest.warns(nc.PluginWarning, match="is not a callable but None. It is left out"):
        assert registration.kernel("k", "reference") is None
    assert registration.supplied("half") is operator.neg


@pytest.fixture
def lazy(monkeypatch, tmp_path):
    """A module that importlib.util.LazyLoader has put off, and whose import fails."""
    path = tmp_path / "put_off.py"
    path.write_text("import this_is_no_module")
    spec = importlib.util.spec_from_file_location("put_off", path)
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "put_off", module)
    spec.loader.exec_module(module)


@pytest.mark.usefixtures("fresh", "lazy")
def test_modules_that_are_put_off_are_not_executed_to_look_at_targets():
    nc.register(make_plugin("registry.scaler('later', 'put_off:Later')"))
    assert registration.origin(type("Later", (), {})).startswith("module ")
    with pytest.raises(nc.PluginError, match="does not import: ModuleNotFoundError"):
        registration.scaler("later")


@pytest.mark.usefixtures("fresh", "lazy")
def test_a_plugin_that_is_put_off_and_does_not_import_is_warned_about(monkeypatch):
    point = importlib.metadata.EntryPoint("late", "put_off", discovery.GROUP)
    plugin = Plugin("late", "late", "1")
    monkeypatch.setattr(discovery, "_load_entry_points", lambda: [discovery._load(point, plugin)])
    with pytest.warns(nc.PluginWarning, match="'put_off' does not import: ModuleNotFoundError"):
        registration.registrations()


@pytest.mark.usefixtures("fresh")
def test_a_kind_of_device_that_is_none():
    message = "backend 'x': no array is on a device of the kind 'gpu'; the kinds are '*', 'cpu', "
    with pytest.raises(nc.PluginError, match=re.escape(message)):
        nc.register(make_plugin("registry.backend('x', 'a:B', devices=['cpu', 'gpu'])"))


@pytest.mark.usefixtures("fresh")
def test_a_probe_that_returns_no_status_is_named(monkeypatch):
    class Probing(ReferenceBackend):
        @classmethod
        def probe(cls):
            return True

    monkeypatch.setattr(sys.modules[__name__], "Probing", Probing, raising=False)
    nc.register(make_plugin(f"registry.backend('probing', '{__name__}:Probing')"))
    status = nc.backends()["probing"]
    assert not status.ready
    assert status.reason.endswith("its probe must return normcore.BackendStatus, not True")
    with pytest.raises(RuntimeError, match="its probe must return"):
        nc.get_backend("probing")


# -- kernels of unknown backends --------------------------------------------------------

KERNEL = "registry.kernel('k', 'a:f', backend='cpuu')"


@pytest.mark.usefixtures("fresh")
def test_register_refuses_a_kernel_for_a_backend_that_no_plugin_has():
    before = registration.registrations()
    plugin = make_plugin("registry.function('half', 'operator:neg')", KERNEL)
    message = "kernel 'k' is for the backend 'cpuu', which no plugin registers; known: reference"
    with pytest.raises(nc.PluginError, match=message):
        nc.register(plugin)
    assert registration.registrations() == before
    nc.register(make_plugin("registry.backend('cpuu', 'a:B')", name="backend"))
    nc.register(plugin)  # nothing of the failure is left behind
    assert {row.name for row in registration.registrations()} >= {"half", "k", "cpuu"}


@pytest.mark.usefixtures("fresh")
def test_register_looks_for_the_backend_of_a_kernel(monkeypatch):
    late = make_plugin("registry.backend('cpuu', 'a:B')", name="late")
    found = [discovery._Loaded(Plugin("late", "late", "1"), late)]
    monkeypatch.setattr(discovery, "_load_entry_points", lambda: found)
    nc.register(make_plugin(KERNEL))
    assert {row.name for row in registration.registrations()} >= {"k", "cpuu"}


@pytest.mark.usefixtures("fresh")
def test_register_takes_nothing_if_looking_for_the_backend_raises(monkeypatch):
    found = [discovery._Loaded(Plugin("bad", "bad", "1"), problem="it is bad")]
    monkeypatch.setattr(discovery, "_load_entry_points", lambda: found)
    plugin = make_plugin("registry.function('half', 'operator:neg')", KERNEL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(nc.PluginWarning, match="it is bad"):
            nc.register(plugin)
    assert not {"half", "k"} & {row.name for row in registration.registrations()}
    with pytest.raises(nc.PluginError, match="kernel 'k' is for the backend 'cpuu'"):
        nc.register(plugin)


@pytest.mark.usefixtures("fresh")
def test_discovery_refuses_kernels_for_backends_that_no_plugin_has(monkeypatch):
    """With them goes what they were to make faster, and kernels for backends that they have."""
    lines = {
        "a": [KERNEL, "registry.backend('of-a', 'a:B')"],
        "b": ["registry.kernel('k', 'a:g', backend='of-a')"],
        "c": ["registry.kernel('k', 'a:h', backend='of-d')"],
        "d": ["registry.backend('of-d', 'a:B')"],
    }
    found = [
        discovery._Loaded(Plugin(name, f"dist-{name}", "1"), make_plugin(*each, name=name))
        for name, each in lines.items()
    ]
    monkeypatch.setattr(discovery, "_load_entry_points", lambda: found)
    with pytest.warns(nc.PluginWarning) as said:
        rows = [row for row in registration.registrations() if row.distribution[:5] == "dist-"]
    assert [(row.kind, row.distribution) for row in rows] == [
        ("kernel", "dist-c"), ("backend", "dist-d")
    ]  # fmt: skip
    assert [re.sub(r", which.*", "", str(each.message)) for each in said] == [
        "plugin 'a' of dist-a 1: kernel 'k' is for the backend 'cpuu'",
        "plugin 'b' of dist-b 1: kernel 'k' is for the backend 'of-a'",
    ]


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("why", ["disabled", "broken"])
def test_kernels_of_a_backend_that_is_not_loaded_are_left_alone(monkeypatch, why):
    found = [discovery._Loaded(Plugin("fast", "fast", "1"), make_plugin(KERNEL))]
    if why == "disabled":
        monkeypatch.setenv("NORMCORE_DISABLED_PLUGINS", "cpuu")
    else:
        found.append(discovery._Loaded(Plugin("cpuu", "cpuu", "1"), problem="it is broken"))
    monkeypatch.setattr(discovery, "_load_entry_points", lambda: found)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="it is broken")
        assert "k" in {row.name for row in registration.registrations()}


@pytest.mark.usefixtures("fresh")
def test_registered_before_discovery_wins_over_entry_points(monkeypatch):
    mine, theirs = (make_plugin("registry.function('shared', 'a:b')", name=n) for n in "ab")
    found = [
        discovery._Loaded(Plugin("theirs", "other", "1"), theirs),
        discovery._Loaded(Plugin("mine", "own", "1"), mine),  # known already: no duplicate
    ]
    monkeypatch.setattr(discovery, "_load_entry_points", lambda: found)
    nc.register(mine)
    with pytest.warns(nc.PluginWarning, match="plugin 'theirs' of other 1.*by plugin 'a'") as said:
        registration.registrations()
    assert len(said) == 1


def test_frozen_programs_need_no_metadata():
    """A program that was frozen without metadata registers the first-party plugins itself."""
    result, said = evaluate(
        """
        import importlib.metadata
        importlib.metadata.distributions = lambda: []
        import normcore_cpu.plugin, normcore_maxabs.plugin
        before = sorted(nc.scalers())
        nc.register(normcore_maxabs.plugin)
        nc.register(normcore_cpu.plugin)
        result = before, sorted(nc.scalers()), sorted(nc.backends()), nc.MaxAbsScaler.__module__
        """
    )
    assert result == [
        ["minmax", "robust", "standard"],
        ["maxabs", "minmax", "robust", "standard"],
        ["cpu", "reference"],
        "normcore_maxabs.scaler",
    ]
    assert said == []


# -- discovery --------------------------------------------------------------------------


@pytest.mark.usefixtures("fresh")
def test_discovery_runs_once_for_many_threads(monkeypatch):
    calls = []
    module = make_plugin("calls.append(1)", "registry.function('counted', 'a:b')")
    module.calls = calls
    loads = [discovery._Loaded(Plugin("counted", "counted", "1"), module)]
    barrier = threading.Barrier(8)

    def load():
        barrier.wait(10)  # all threads are looking at once
        return loads

    monkeypatch.setattr(discovery, "_load_entry_points", load)
    seen = []
    threads = [
        threading.Thread(target=lambda: seen.append(registration.registrations())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert all(each == seen[0] for each in seen)
    assert len(calls) == 1


@pytest.mark.usefixtures("fresh")
def test_everything_else_has_taken_effect_when_the_warning_is_an_error(monkeypatch):
    found = [
        discovery._Loaded(Plugin("bad", "bad", "1"), problem="plugin 'bad' of bad 1: it is bad"),
        discovery._Loaded(
            Plugin("good", "good", "1"), make_plugin("registry.function('g', 'a:b')")
        ),
    ]
    monkeypatch.setattr(discovery, "_load_entry_points", lambda: found)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(nc.PluginWarning, match=r"it is bad. It is not used."):
            registration.registrations()
        assert "g" in {row.name for row in registration.registrations()}


@pytest.mark.usefixtures("fresh")
def test_interrupted_discovery_can_be_repeated(monkeypatch):
    module = make_plugin("interrupt()", "registry.function('late', 'a:b')")
    found = [discovery._Loaded(Plugin("late", "late", "1"), module)]
    monkeypatch.setattr(discovery, "_load_entry_points", lambda: found)

    def interrupt():
        raise KeyboardInterrupt

    module.interrupt = interrupt
    with pytest.raises(KeyboardInterrupt):
        registration.registrations()
    module.interrupt = lambda: None
    assert "late" in {row.name for row in registration.registrations()}
