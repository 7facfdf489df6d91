"""Which backend serves an array, and what is found by name."""

from __future__ import annotations

import sys
import threading
import types

import numpy as np
import pytest
from discovery import fresh_discovery

import normcore as nc
from normcore import registration
from normcore.array_backend import selection
from normcore.array_backend.reference import ReferenceBackend


@pytest.fixture
def fresh(monkeypatch):
    """Discovery as in a new process, without entry points."""
    fresh_discovery(monkeypatch)


def register_backends(**details):
    """Register backends that are subclasses of the reference, each refusing float32."""

    class Picky(ReferenceBackend):
        def adopt(self, array):
            if array.dtype == np.float32:
                raise BufferError("no float32 here")
            return array

    module = types.ModuleType("picky_backends")
    sys.modules["picky_backends"] = module

    class Host:
        @nc.hookimpl
        def normcore_register(self, registry):
            for name, options in details.items():
                setattr(module, name, type(name, (Picky,), {"name": name}))
                registry.backend(name, f"picky_backends:{name}", **options)

    nc.register(Host())


class Tensor:
    """An array of a foreign library on a device of DLPack's numbering."""

    def __init__(self, device, dtype="float64"):
        self.device, self.dtype = device, np.dtype(dtype)

    def __dlpack_device__(self):
        if self.device is None:
            raise BufferError("no device")
        return self.device, 0


@pytest.fixture
def backends(fresh):
    register_backends(
        by_name={},
        host={"devices": ["cpu"], "arrays": ["numpy.ndarray"]},
        cuda={"devices": ["cuda"], "priority": 10},
        cuda_low={"devices": ["cuda"], "priority": 5},
        tensor={"devices": ["cuda"], "arrays": [f"{Tensor.__module__}.Tensor"]},
    )


@pytest.mark.usefixtures("backends")
@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.ones(3), "host"),
        (np.ones(3, np.float32), "host"),  # its own type: adopt says what is wrong, if anything is
        (np.ones(3).view(np.memmap), "host"),  # a subclass
        ([1.0, 2.0], "reference"),  # no dtype, which the picky one refuses
        (Tensor(2), "tensor"),  # the type comes before priority
        (type("Sub", (Tensor,), {})(2), "tensor"),
        (type("Alien", (), dict(vars(Tensor)))(2), "cuda"),
        (type("Alien", (), dict(vars(Tensor)))(2, "float32"), "cuda"),  # refused by all
        (type("Alien", (), dict(vars(Tensor)))(13), "cuda"),  # managed memory
        (type("Alien", (), dict(vars(Tensor)))(3), "host"),  # pinned memory
        (type("Alien", (), dict(vars(Tensor)))(10), "reference"),
        (type("Alien", (), dict(vars(Tensor)))(None), "reference"),
    ],
)
def test_selection_by_array(array, expected):
    for _ in range(2):  # found, then cached
        assert selection.select_backend(array).name == expected


@pytest.mark.usefixtures("backends")
def test_selection_gives_way_where_an_array_is_refused():
    class Own(np.ndarray):
        def __array_namespace__(self):
            return np

    Foreign = type("Foreign", (), {"dtype": np.dtype(np.float32), "__array__": lambda *_: None})
    x = np.ones(2, np.float32).view(Own)
    assert selection.select_backend(x).name == "host"
    with pytest.raises(TypeError):
        selection.get_backend("reference").adopt(Foreign())
    assert selection.select_backend(Foreign()).name == "host"  # refused by all: the best fit


@pytest.mark.usefixtures("backends")
def test_selection_order_and_context():
    x = np.ones(3)
    named = selection.get_backend("by_name")
    assert selection.select_backend(x, "cuda_low").name == "cuda_low"
    assert selection.select_backend(x, named) is named
    assert selection.get_backend("by_name") is named
    with nc.use_backend("cuda") as outer:
        assert selection.select_backend(x) is outer
        with nc.use_backend(named):
            assert selection.select_backend(x) is named
            assert selection.select_backend(x, "host").name == "host"
        assert selection.select_backend(x) is outer
        seen = []
        thread = threading.Thread(target=lambda: seen.append(selection.select_backend(x).name))
        thread.start()
        thread.join()
        assert seen == ["host"]
    assert selection.select_backend(x).name == "host"
    with pytest.raises(ZeroDivisionError), nc.use_backend("cuda"):
        raise ZeroDivisionError
    assert selection.select_backend(x).name == "host"


@pytest.mark.usefixtures("backends")
def test_selection_errors():
    with pytest.raises(ValueError, match=r"no backend 'nope'; known: .*by_name; cuda; .*reference"):
        selection.select_backend(np.ones(2), "nope")
    with pytest.raises(ValueError, match="no backend 'nope'"), nc.use_backend("nope"):
        pass
    with pytest.raises(TypeError, match=r"a backend is a name or a normcore.Backend, not 3"):
        selection.select_backend(np.ones(2), 3)


@pytest.mark.usefixtures("backends")
def test_selection_sees_what_is_registered_later():
    x = np.ones(3)
    assert selection.select_backend(x).name == "host"
    register_backends(better={"devices": ["cpu"], "arrays": ["numpy.ndarray"], "priority": 1})
    assert selection.select_backend(x).name == "better"


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="no scaler 'maxabz'; known: maxabs, minmax, "):
        registration.scaler("maxabz")
    with pytest.raises(ValueError, match=r"no source '.xls'; known: .*\.csv"):
        registration.source(".xls")


def test_sources_by_suffix():
    assert registration.source(".NPY") is registration.sources()[".npy"]
    assert {".csv", ".parquet", ".arrow", ".feather", ".ipc", ".npy"} <= set(registration.sources())
    assert len(registration.sources()) == len(set(registration.sources()))


def test_scaler_name():
    assert registration.scaler_name(nc.StandardScaler) == "standard"
    assert registration.scaler_name(nc.MaxAbsScaler) == "maxabs"
    assert registration.scaler_name(type("StandardScaler", (), {})) is None
