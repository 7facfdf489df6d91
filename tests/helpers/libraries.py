"""Batch norm on the arrays of every library that there is a backend for, for tests in NumPy.

What is called here gets its arrays as those of a library, and gives its results back as NumPy's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import normcore as nc
from normcore.layout.namespace import to_numpy

LIBRARIES = ["cpu", "reference", "strict", "torch", "torch on cpu", "cupy"]


def to_strict(array: np.ndarray) -> Any:
    """Return a copy that has what the array API standard asks for, and nothing else."""
    return pytest.importorskip("array_api_strict").asarray(np.array(array))


def to_torch(array: np.ndarray) -> Any:
    """Return a copy as a tensor."""
    pytest.importorskip("array_api_compat")
    return pytest.importorskip("torch").from_numpy(np.array(array, order="C"))


class Library:
    """A kind of arrays, and the backend that takes them.

    Parameters
    ----------
    name : str
    native : callable
        Makes one of a NumPy array.
    backend : str or Backend, optional
    """

    def __init__(self, name: str, native: Callable[[np.ndarray], Any], backend: Any = None) -> None:
        self.name, self.native, self.backend = name, native, backend
        self.kind = type(native(np.zeros(1)))

    def call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call a function with arrays of the library in the place of NumPy's.

        An `out` is written to and returned; two arguments that are one array remain one.
        """
        natives: dict[int, Any] = {}

        def converted(value: Any) -> Any:
            if not isinstance(value, np.ndarray) or value.dtype.kind == "U":
                return value
            return natives.setdefault(id(value), self.native(value))

        out = options.get("out")
        result = function(
            *map(converted, arguments), **{key: converted(each) for key, each in options.items()}
        )
        first = result[0] if isinstance(result, tuple) else result
        assert isinstance(first, self.kind)
        if out is None:
            return self.host(result)
        assert first is natives[id(out)]
        out[...] = to_numpy(first)
        return (out, *map(self.host, result[1:])) if isinstance(result, tuple) else out

    def host(self, value: Any) -> Any:
        """Return a result with NumPy arrays."""
        if isinstance(value, tuple):
            return tuple(map(self.host, value))
        if isinstance(value, list):
            return list(map(self.host, value))
        if isinstance(value, nc.Moments):
            return value.to_host()
        return to_numpy(value) if isinstance(value, self.kind) else value

    def BatchNorm(self, *arguments: Any, **options: Any) -> nc.BatchNorm:
        """Return a layer on the library's arrays."""
        options.setdefault("backend", self.backend)
        layer = _Layer(*arguments, **options)
        layer.library = self
        return layer

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a function of nc.functional on the library's arrays."""
        function = getattr(nc.functional, name)

        def on_library(*arguments: Any, **options: Any) -> Any:
            options.setdefault("backend", self.backend)
            return self.call(function, *arguments, **options)

        return on_library


class _Layer(nc.BatchNorm):
    library: Library

    def forward(self, x: Any, out: Any = None, **options: Any) -> Any:
        return self.library.call(super().forward, x, out=out, **options)

    def backward(self, dy: Any, out: Any = None) -> Any:
        return self.library.call(super().backward, dy, out=out)


@contextmanager
def library(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    """Give the library of a name; skip the test where it is missing."""
    if name == "cpu":
        yield Library(name, np.array)
    elif name == "reference":
        yield Library(name, np.array, "reference")
    elif name == "strict":
        yield Library(name, to_strict, "reference")
    elif name.startswith("torch"):
        yield Library(name, to_torch, "reference" if name == "torch" else "cpu")
    else:
        from cuda_host.build import compiler
        from cuda_host.fake_cupy import installed
        from normcore_cupy.backend import CupyBackend

        if compiler() is None:
            pytest.skip("there is no g++")
        with installed(monkeypatch) as cupy:
            yield Library(name, cupy.asarray, CupyBackend())
