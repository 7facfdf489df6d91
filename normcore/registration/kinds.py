"""What the target of each kind of registration must be."""

from __future__ import annotations

import sys

__all__ = ["fault_of", "loaded"]

# What the class of a kind derives from, and how its author names that.
_BASES = {
    "scaler": (
        "normcore.scaling.scaler:Scaler",
        "normcore.AffineScaler, normcore.PointwiseScaler or normcore.RowScaler",
    ),
    "backend": ("normcore.array_backend.abstract:Backend", "normcore.Backend"),
    "source": ("normcore.io.table:TableSource", "normcore.io.TableSource"),
    "engine": ("normcore.engines.engine:Engine", "normcore.Engine"),
}


def loaded(target: str) -> tuple[object, ...]:
    """Return what a target, ``"module:attribute"``, is, in a tuple; an empty one if not loaded.

    A module is not asked for what it would make or import on demand.
    """
    module, _, attribute = target.partition(":")
    try:  # past the `__getattribute__` by which importlib.util.LazyLoader executes a module
        names = object.__getattribute__(sys.modules.get(module), "__dict__")
    except AttributeError:  # None, or another stand-in for a module
        return ()
    return (names[attribute],) if attribute in names else ()


def fault_of(kind: str, target: object) -> str:
    """Return why an object cannot be the target of a kind; nothing is imported to tell."""
    if kind not in _BASES:
        return "" if callable(target) else f"is not a callable but {target!r}"
    if not isinstance(target, type):
        return f"is not a class but {target!r}"
    base, its_name = _BASES[kind]
    known = [each for each in loaded(base) if isinstance(each, type)]  # by any subclass of it
    if not any(issubclass(target, each) for each in known):
        return f"is not a subclass of {its_name}"
    missing = sorted(getattr(target, "__abstractmethods__", ()))
    return f"lacks {', '.join(missing)}" if missing else ""
