"""normcore: normalization of arrays, input scalers and batch normalization, on pluggable backends.

Public names load on first use, so that importing normcore costs little more than importing
NumPy; names that plugins supply (``from normcore import MaxAbsScaler``) resolve here too.
"""

import sys as _sys
from importlib import import_module as _import_module
from os import path as _path

_root = _path.dirname(_path.dirname(_path.abspath(__file__)))
if _path.isdir(_path.join(_root, "backends", "normcore_cpu")):  # only in the source tree
    from normcore.source_tree import check_build as _check_build

    _check_build(_root)

__version__ = "0.1.0"

# Each public name and the module that defines it, with the name it has there if that is another.
_ORIGINS = {
    "Affine": "affine",
    "AffineScaler": "scaling",
    "Backend": "backend",
    "BackendStatus": "backend",
    "BatchNorm": "batchnorm",
    "Brackets": "order_statistics",
    "Extrema": "statistics",
    "MinMaxScaler": "scaling",
    "Moments": "statistics",
    "PluginError": "registry",
    "PluginWarning": "registry",
    "PointwiseScaler": "scaling",
    "Quantiles": "order_statistics",
    "Registry": "registry",
    "RobustScaler": "scaling",
    "StandardScaler": "scaling",
    "backends": "selection",
    "get_backend": "selection",
    "get_num_threads": "threads",
    "hookimpl": "hookspecs",
    "load": "io.saved:load_scaler",
    "population_statistics": "population",
    "register": "discovery",
    "register_with_threadpoolctl": "threads",
    "scalers": "plugins",
    "set_executor": "threads",
    "set_num_threads": "threads",
    "set_thread_affinity": "threads",
    "use_backend": "selection",
    "use_executor": "threads",
    "use_num_threads": "threads",
}

__all__ = sorted([*_ORIGINS, "functional"])


def __getattr__(name: str) -> object:
    """Load a public name, or find the plugin that supplies it (PEP 562)."""
    if name == "functional":
        return _import_module("normcore.functional")
    if name in _ORIGINS:
        module, _, attribute = _ORIGINS[name].partition(":")
        value = getattr(_import_module(f"normcore.{module}"), attribute or name)
    elif name.startswith("_") or _is_submodule(name):  # these never look for plugins
        raise AttributeError(f"module 'normcore' has no attribute {name!r}", name=name)
    else:
        from normcore import plugins

        try:
            value = plugins.supplied(name)
        except KeyError:
            raise AttributeError(
                f"module 'normcore' has no attribute {name!r}, and no plugin supplies it",
                name=name,
            ) from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    from normcore import discovery

    return sorted({*globals(), *__all__, *discovery.known_supplied_names()})


def _is_submodule(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(f"normcore.{name}") is not None


if "threadpoolctl" in _sys.modules:  # it need not wait for the first use of threads
    _import_module("normcore.threads").register_if_loaded()
