"""normcore: normalization of arrays, input scalers and batch normalization, on pluggable backends.

Public names load on first use, so that importing normcore costs little more than importing
NumPy; names that plugins supply (``from normcore import MaxAbsScaler``) resolve here too.
"""

import sys as _sys
from importlib import import_module as _import_module
from os import path as _path

from normcore.package import public_names as _public_names
from normcore.package import requirements as _requirements
from normcore.package.public_names import __version__ as __version__

_requirements.check_python()
_package = _path.dirname(_path.abspath(__file__))
_root = _path.dirname(_package)
if _path.isdir(_path.join(_root, "backends", "normcore_cpu")):  # only in the source tree
    from normcore.package.source_tree import check_build as _check_build

    _check_build(_root)
else:
    _requirements.check_compiled_modules(_package)

__all__ = _public_names.ALL


def __getattr__(name: str) -> object:
    """Load a public name, or find the plugin that supplies it (PEP 562)."""
    if name in _public_names.SUBMODULES:
        return _load(name)
    if name in _public_names.ORIGINS:
        module, _, attribute = _public_names.ORIGINS[name].partition(":")
        value = getattr(_load(module), attribute or name)
    elif name.startswith("_") or _is_submodule(name):  # these never look for plugins
        raise AttributeError(f"module 'normcore' has no attribute {name!r}", name=name)
    else:
        _requirements.check_libraries()
        from normcore import registration

        try:
            value = registration.supplied(name)
        except KeyError:
            raise AttributeError(
                f"module 'normcore' has no attribute {name!r}, and no plugin supplies it",
                name=name,
            ) from None
    globals()[name] = value
    return value


def _load(module: str) -> object:
    _requirements.check_libraries()
    loaded = _import_module(f"normcore.{module}")
    from normcore.threads.immortal import make_modules_immortal

    make_modules_immortal()
    return loaded


def __dir__() -> list[str]:
    from normcore.registration import discovery

    return sorted({*globals(), *__all__, *discovery.known_supplied_names()})


def _is_submodule(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(f"normcore.{name}") is not None


if "threadpoolctl" in _sys.modules:  # it need not wait for the first use of threads
    _import_module("normcore.threads").register_if_loaded()
