"""What the library asks of its plugins, by name.

The hook is in :mod:`~normcore.registration.hookspecs`, what it may register in
:mod:`~normcore.registration.registry`, the search for plugins in
:mod:`~normcore.registration.discovery`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from normcore.package.callers_warning import warn_caller
from normcore.registration.discovery import canonical, catalog, register
from normcore.registration.kinds import loaded
from normcore.registration.registry import PluginError, PluginWarning, Registration

__all__ = [
    "Row",
    "checked",
    "engine",
    "engines_of",
    "exporter_registration",
    "kernel",
    "kernel_origin",
    "origin",
    "register",
    "registrations",
    "scaler",
    "scaler_name",
    "scalers",
    "source",
    "sources",
    "supplied",
]


class Row(NamedTuple):
    """One registration, for tables."""

    kind: str
    name: str
    target: str
    distribution: str
    version: str


class _Sources(Mapping[str, type]):
    """Resolves on look-up, since formats need libraries that others can do without."""

    def __init__(self, registered: Mapping[str, Registration]) -> None:
        self._registered = registered

    def __getitem__(self, suffix: str) -> type:
        return self._registered[suffix].resolve()

    def __iter__(self) -> Iterator[str]:
        return iter(self._registered)

    def __len__(self) -> int:
        return len(self._registered)


def scalers() -> Mapping[str, type]:
    """Return every scaler class by its registered name.

    Imports them all; a plugin's that does not import is left out with a :class:`PluginWarning`.

    Examples
    --------
    >>> import normcore as nc
    >>> nc.scalers()["standard"].__name__
    'StandardScaler'
    """
    resolved = {name: _resolve_or_warn(each) for name, each in catalog().of_kind("scaler").items()}
    return MappingProxyType({name: each for name, each in resolved.items() if each is not None})


def scaler(name: str) -> type:
    """Return the scaler class registered under ``name``.

    Raises
    ------
    ValueError
        If there is none of that name.
    PluginError
        If it does not import.
    """
    return _find("scaler", name).resolve()


def scaler_name(cls: type) -> str | None:
    """Return the name under which a scaler class is registered, or None."""
    for name, each in catalog().of_kind("scaler").items():
        if each.target.endswith(f":{cls.__name__}") and _resolve_or_warn(each) is cls:
            return name
    return None


def sources() -> Mapping[str, type]:
    """Return every reader and writer of files by suffix, each imported when it is looked up."""
    return _Sources(catalog().of_kind("source"))


def source(suffix: str) -> type:
    """Return the reader and writer of files with ``suffix``, as ``".csv"``.

    Raises
    ------
    ValueError
        If there is none for that suffix.
    PluginError
        If it does not import.
    """
    return _find("source", suffix.lower()).resolve()


def engine(name: str) -> Any:
    """Return the engine class registered under ``name``.

    Raises
    ------
    ValueError
        If there is none of that name.
    PluginError
        If it does not import.
    """
    return _find("engine", name).resolve()


def engines_of(library: str) -> list[Any]:
    """Return the engine classes that may take tables of a library, those that import."""
    found = [_resolve_or_warn(each) for each in catalog().engines.get(library, ())]
    return [each for each in found if each is not None]


def exporter_registration(format: str) -> Registration:
    """Return what is registered as an exporter of a format.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    return _find("exporter", format)


def kernel(name: str, backend: str) -> Callable[..., Any] | None:
    """Return the faster form of ``name`` for a backend; None where there is none that imports."""
    registration = catalog().get("kernel", name, backend)
    return None if registration is None else _resolve_or_warn(registration)


def kernel_origin(name: str, backend: str) -> str:
    """Return the plugin that registered a kernel, for messages."""
    registration = catalog().get("kernel", name, backend)
    return "not registered" if registration is None else str(registration.plugin)


def supplied(name: str) -> object:
    """Return what a plugin supplies as ``normcore.<name>``; the name may be dotted.

    Raises
    ------
    KeyError
        If none does.
    PluginError
        If it does not import.
    """
    return catalog().supplied[name].resolve()


def origin(cls: type) -> str:
    """Return where a class comes from, for messages: its plugin, or else its module."""
    target = f"{cls.__module__}:{cls.__name__}"
    try:
        for each in catalog():
            if each.target == target or _is_target(each, cls):
                return str(each.plugin)
    except PluginError:  # plugins are being looked for
        pass
    return f"module {cls.__module__!r}"


def registrations() -> list[Row]:
    """Return everything that is registered; nothing is imported."""
    return [_row(each) for each in catalog()]


def checked(
    kind: str | None = None, *, distribution: str | None = None
) -> list[tuple[Row, PluginError | None]]:
    """Return what is registered, by one kind and distribution or any, and why it cannot be used.

    All of it is imported.
    """
    return [
        (_row(each), _error_of(each))
        for each in catalog()
        if kind in (None, each.kind)
        and (distribution is None or canonical(distribution) == canonical(each.plugin.distribution))
    ]


def _find(kind: str, name: str) -> Registration:
    registration = catalog().get(kind, name)
    if registration is None:
        known = ", ".join(sorted(catalog().of_kind(kind)))
        raise ValueError(f"there is no {kind} {name!r}; known: {known}")
    return registration


def _row(each: Registration) -> Row:
    return Row(each.kind, each.name, each.target, each.plugin.distribution, each.plugin.version)


def _error_of(registration: Registration) -> PluginError | None:
    try:
        registration.resolve()
        if registration.writer:
            registration.resolve_writer()
    except PluginError as error:
        return error
    return None


def _is_target(registration: Registration, cls: type) -> bool:
    """Whether a class is what is registered; nothing is imported to tell."""
    return any(each is cls for each in loaded(registration.target))


def _resolve_or_warn(registration: Registration) -> Any:
    try:
        return registration.resolve()
    except PluginError as error:
        warn_caller(f"{error}. It is left out.", PluginWarning)
        return None
