"""The CuPy backend over a fake CuPy, in chunks so small that most arrays have several."""

import numpy as np
import pytest
from cuda_host.comparing import assert_same
from cuda_host.fake_cupy import installed
from cuda_host.fake_torch import posing
from normcore_cupy import compiler, probe
from normcore_cupy.backend import CupyBackend

from normcore.array_backend import selection


@pytest.fixture
def cupy(monkeypatch):
    with installed(monkeypatch) as module:
        yield module


@pytest.fixture
def torch(monkeypatch, cupy):
    """PyTorch's streams, of which 7 is the current one; its tensors pose as the device's."""
    with posing(monkeypatch, cupy) as fake:
        yield fake


@pytest.fixture
def backend(cupy):
    return CupyBackend(chunk_bytes=4096)


@pytest.fixture
def registered(cupy, monkeypatch):
    """The backend that is found by name and chosen for arrays, as on a machine with a device."""
    monkeypatch.setattr(probe, "_loads", lambda name: object() if "cuda" in name else None)
    monkeypatch.setattr(compiler, "why_missing", lambda: "")
    monkeypatch.setattr(selection, "_choices", selection._Choices(selection.catalog()))
    monkeypatch.setattr(selection, "_instances", {})
    return selection.get_backend("cupy")


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((700, 3)) * [1.0, 5.0, 1e-3] + 1e5


@pytest.fixture
def agree(registered, monkeypatch):
    """Return a function that compares a call twice with the general way, and counts plans."""
    known = registered.whole_calls.caller.known

    def compare(call, planned=1):
        known.clear()
        results = [call(), call()]
        made = sum(each is not None for each in known.values())
        assert made >= planned if planned else made == 0  # more where memory is aligned otherwise
        with monkeypatch.context() as patch:
            patch.setattr(registered, "whole_calls", None)
            expected = call()
        for each in results:
            assert_same(each, expected)

    return compare
