"""What a hook may register: each kind, what is refused of it, and how it comes together."""

from __future__ import annotations

import inspect
import operator

import pytest

import normcore as nc
from normcore import registration
from normcore.registration.registry import Catalog, Plugin, Registration, Registry


def registry():
    return Registry(Plugin("test", "testing", "1"))


def test_registry_scaler():
    r = registry()
    r.scaler("name", "package.module:Class")
    assert r._close() == [Registration("scaler", "name", "package.module:Class", r._plugin)]
    for name in ("", "two words", "-x", 3, None):
        with pytest.raises(ValueError, match="cannot name a scaler"):
            registry().scaler(name, "a:B")
    for target in ("", "a", "a.b", "a:", ":b", "a:b.c", "a:b:c", "a :b", "1a:b", "a..b:c", None):
        with pytest.raises(ValueError, match="not of the form 'module:attribute'"):
            registry().scaler("name", target)
    r = registry()
    r.scaler("name", "a:B")
    with pytest.raises(ValueError, match="scaler 'name' is registered twice"):
        r.scaler("name", "a:C")


def test_registry_backend():
    r = registry()
    r.backend("b", "a:B", arrays=["cupy.ndarray"], devices={"cuda"}, priority=10)
    (only,) = r._close()
    assert (only.arrays, only.devices, only.priority) == (("cupy.ndarray",), ("cuda",), 10)
    for options in ({"arrays": "cupy.ndarray"}, {"devices": "cuda"}, {"devices": [1]}):
        with pytest.raises(TypeError, match="is a sequence of strings"):
            registry().backend("b", "a:B", **options)


def test_registry_kernel():
    r = registry()
    r.kernel("k", "a:f", backend="cpu")
    r.kernel("k", "a:g", backend="cupy")  # another backend's form of the same
    assert [each.backend for each in r._close()] == ["cpu", "cupy"]
    with pytest.raises(ValueError, match="cannot be the name of a backend"):
        registry().kernel("k", "a:f", backend="")


def test_registry_function():
    r = registry()
    r.function("scale", "a:f")
    assert r._close()[0].supplied_name == "scale"
    for name in ("_private", "not-python", "1", ""):
        with pytest.raises(ValueError, match="is not a public Python name"):
            registry().function(name, "a:f")


def test_registry_source():
    r = registry()
    r.source(".csv", "a:B")
    r.source(".csv.gz", "a:C")
    assert [each.name for each in r._close()] == [".csv", ".csv.gz"]
    for suffix in ("csv", ".", ".CSV", ".a/b", 1):
        with pytest.raises(ValueError, match="is not a file suffix"):
            registry().source(suffix, "a:B")


def test_registry_engine():
    r = registry()
    r.engine("e", "a:B", libraries=["dask", "xarray"])
    (only,) = r._close()
    assert only.libraries == ("dask", "xarray")
    catalog = Catalog().extended([only])
    assert catalog.engines == {"dask": [only], "xarray": [only]}
    with pytest.raises(TypeError, match="engine 'e': libraries is a sequence of strings"):
        registry().engine("e", "a:B", libraries="dask")


def test_registry_exporter():
    r = registry()
    r.exporter("e", "operator:neg", writer="operator:pos")
    (only,) = r._close()
    assert only.writer == "operator:pos"
    assert only.resolve() is operator.neg
    assert only.supplied_name is None
    for writer in ("no target", 1, None):
        with pytest.raises(ValueError, match=r"writer .* of exporter 'e' is not of the form"):
            registry().exporter("e", "a:b", writer=writer)
    wrong = only._replace(target="math:pi")
    with pytest.raises(nc.PluginError, match=r"of exporter 'e' is not a callable but 3\.14"):
        wrong.resolve()


def test_registry_closes_when_the_hook_has_returned():
    r = registry()
    r._close()
    with pytest.raises(RuntimeError, match=r"plugin 'test' of testing 1: .* while its hook runs"):
        r.scaler("late", "a:B")


def test_catalog_adds_all_or_nothing():
    first, second = Plugin("first", "one", "1"), Plugin("second", "two", "1")
    before = Catalog().extended([Registration("scaler", "x", "a:X", first)])
    with pytest.raises(nc.PluginError, match=r"plugin 'second' of two 1.*plugin 'first' of one 1"):
        before.extended(
            [Registration("scaler", "y", "a:Y", second), Registration("scaler", "x", "a:Z", second)]
        )
    assert [each.name for each in before] == ["x"]
    after = before.extended([Registration("kernel", "x", "a:k", second, backend="cpu")])
    assert [each.name for each in before] == ["x"]
    assert after.get("kernel", "x", "cpu") is not None
    assert after.get("kernel", "x", "cupy") is None


def test_everything_a_plugin_can_register_has_documentation_and_a_test():
    methods = {
        name: method
        for name, method in vars(Registry).items()
        if inspect.isfunction(method) and not name.startswith("_")
    }
    assert {row.kind for row in registration.registrations()} <= set(methods)
    for name, method in methods.items():
        assert len(inspect.getdoc(method) or "") > 40, name
        assert f"test_registry_{name}" in globals(), name
