"""What plugins have to offer, by name: the registry a hook writes to and the catalog it fills."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

from normcore.registration.kinds import fault_of, loaded
from normcore.threads.immortal import make_modules_immortal

__all__ = [
    "DEVICE_KINDS",
    "Catalog",
    "Plugin",
    "PluginError",
    "PluginWarning",
    "Registration",
    "Registry",
    "imported",
]

_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_SUFFIX = re.compile(r"(\.[a-z0-9]+)+")

#: DLPack's numbers of device kinds; pinned host memory is the host's, managed the device's.
DEVICE_KINDS = {
    1: "cpu", 2: "cuda", 3: "cpu", 4: "opencl", 7: "vulkan", 8: "metal", 9: "vpi", 10: "rocm",
    11: "cpu", 12: "ext", 13: "cuda", 14: "oneapi", 15: "webgpu", 16: "hexagon", 17: "maia",
    18: "trn",
}  # fmt: skip


class PluginError(RuntimeError):
    """A plugin cannot be used; the message names the plugin and its distribution.

    Examples
    --------
    >>> import normcore as nc
    >>> try:
    ...     nc.register(object())
    ... except nc.PluginError as error:
    ...     print("normcore_register" in str(error))
    True
    """


class PluginWarning(UserWarning):
    """A plugin, or one of its targets, is left out; everything else works.

    Examples
    --------
    >>> import warnings
    >>> import normcore as nc
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", nc.PluginWarning)  # a plugin left out is an error now
    ...     _ = nc.scalers()
    """


class Plugin(NamedTuple):
    """Where registrations come from."""

    name: str
    distribution: str = ""
    version: str = ""

    def __str__(self) -> str:
        if not self.distribution:
            return f"plugin {self.name!r}, registered by the application"
        return f"plugin {self.name!r} of {self.distribution} {self.version}".rstrip()


class Registration(NamedTuple):
    """One thing that a plugin offers."""

    kind: str  # scaler, backend, kernel, function, source, engine or exporter
    name: str
    target: str
    plugin: Plugin
    arrays: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    priority: int = 0
    backend: str = ""
    libraries: tuple[str, ...] = ()
    writer: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What no other registration may share: kernels are named per backend."""
        return self.kind, self.name, self.backend

    @property
    def supplied_name(self) -> str | None:
        """The name under which the target is an attribute of ``normcore``, if any.

        It may be dotted, where the target is an attribute of a submodule.
        """
        if self.kind == "function":
            return self.name
        attribute = self.target.partition(":")[2]
        return attribute if self.kind == "scaler" and not attribute.startswith("_") else None

    def resolve(self) -> Any:
        """Import the target.

        Raises
        ------
        PluginError
            If it does not import, or is not what its kind requires: a class of that kind, without
            abstract methods, or a callable.
        """
        try:
            target = imported(self.target)
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"{self.plugin}: the target {self.target!r} of {self.kind} {self.name!r} does not "
                f"import: {type(error).__name__}: {error}"
            ) from error
        self._check(target)
        if isinstance(target, type):
            make_modules_immortal()
        return target

    def resolve_writer(self) -> Any:
        """Import the writer of an exporter that has one, as :meth:`resolve` does the target."""
        return self._replace(target=self.writer).resolve()

    def check_loaded(self) -> None:
        """Refuse a target that is loaded, and is not what its kind requires; import nothing.

        A kernel that is None is one that was not compiled: left out with a warning when it is
        asked for, as one that does not import.

        Raises
        ------
        PluginError
            As :meth:`resolve`.
        """
        for target in loaded(self.target):
            if not (self.kind == "kernel" and target is None):
                self._check(target)
        if self.writer:
            self._replace(target=self.writer, writer="").check_loaded()

    def _check(self, target: object) -> None:
        fault = fault_of(self.kind, target)
        if fault:
            raise PluginError(
                f"{self.plugin}: the target {self.target!r} of {self.kind} {self.name!r} {fault}"
            )


class Registry:
    """Takes the registrations of one plugin while its hook runs.

    Every method raises ValueError or TypeError for an argument that cannot work; targets are
    strings of the form ``"module:attribute"``, imported on first use and not before.

    Parameters
    ----------
    plugin : Plugin
        Whose they are.

    Examples
    --------
    >>> import normcore as nc
    >>> @nc.hookimpl
    ... def normcore_register(registry):
    ...     registry.scaler("halfrange", "my_package:HalfRangeScaler")
    """

    def __init__(self, plugin: Plugin) -> None:
        self._plugin = plugin
        self._registrations: dict[tuple[str, str, str], Registration] = {}
        self._open = True

    def scaler(self, name: str, target: str) -> None:
        """Offer a scaler class.

        Parameters
        ----------
        name, target : str
            Its name, as ``normcore.scalers()[name]`` and ``--scaler name`` on the command line, and
            where it is; ``normcore`` has it under its own class name.
        """
        self._add("scaler", name, target)

    def backend(
        self,
        name: str,
        target: str,
        *,
        arrays: Iterable[str] = (),
        devices: Iterable[str] = (),
        priority: int = 0,
    ) -> None:
        """Offer a subclass of :class:`normcore.Backend`.

        Parameters
        ----------
        name, target : str
            Its name and where it is.
        arrays : sequence of str, optional
            Qualified names of the array types that are its own, as ``"cupy.ndarray"``; it comes
            before backends to which they are foreign.
        devices : sequence of str, optional
            Kinds of device whose arrays it serves without being asked for by name: ``"cpu"``,
            ``"cuda"``, ``"rocm"``, ``"metal"`` and others that DLPack has, or ``"*"`` for all.
            Without any, it serves only who names it.
        priority : int
            Among backends that serve an array equally well the highest is used.
        """
        kinds = _strings(devices, f"backend {name!r}: devices")
        known = sorted({"*", *DEVICE_KINDS.values()})
        for kind in kinds:
            if kind not in known:
                raise ValueError(
                    f"backend {name!r}: no array is on a device of the kind {kind!r}; the kinds "
                    f"are {', '.join(map(repr, known))}"
                )
        self._add(
            "backend",
            name,
            target,
            arrays=_strings(arrays, f"backend {name!r}: arrays"),
            devices=kinds,
            priority=int(priority),
        )

    def kernel(self, name: str, target: str, *, backend: str) -> None:
        """Offer a faster form, for one backend, of something that has an array-API form.

        Parameters
        ----------
        name : str
            What :attr:`normcore.PointwiseScaler.kernel` says, with ``"_inverse"`` for the inverse.
        target : str
            Where it is; called as ``kernel(x, *arguments)``, as described there.
        backend : str
            Name of the backend; a plugin that names one that no plugin registers is refused.
        """
        if not isinstance(backend, str) or not _NAME.fullmatch(backend):
            raise ValueError(f"kernel {name!r}: {backend!r} cannot be the name of a backend")
        self._add("kernel", name, target, backend=backend)

    def function(self, name: str, target: str) -> None:
        """Offer a function, or another callable such as a layer's class.

        Parameters
        ----------
        name, target : str
            Its name, as ``normcore.<name>``, and where it is; ``"functional.<name>"`` makes it an
            attribute of ``normcore.functional`` instead.
        """
        attribute = name.removeprefix("functional.") if isinstance(name, str) else ""
        if not attribute.isidentifier() or attribute.startswith("_"):
            raise ValueError(f"the function name {name!r} is not a public Python name")
        self._add("function", name, target)

    def source(self, suffix: str, target: str) -> None:
        """Offer a reader and writer of files, a subclass of :class:`normcore.io.TableSource`.

        Parameters
        ----------
        suffix, target : str
            Of the files, as ``".parquet"``, and where it is.
        """
        if not isinstance(suffix, str) or not _SUFFIX.fullmatch(suffix):
            raise ValueError(f"{suffix!r} is not a file suffix such as '.csv', in lower case")
        self._add("source", suffix, target)

    def engine(self, name: str, target: str, *, libraries: Iterable[str] = ()) -> None:
        """Offer a subclass of :class:`normcore.Engine`: where ``observe`` and ``map`` run.

        Parameters
        ----------
        name, target : str
            Its name, as ``--engine name`` on the command line, and where it is.
        libraries : sequence of str, optional
            Names of the import packages whose tables it may take, as ``"dask"``; scalers ask it
            for these whether it does.
        """
        self._add(
            "engine", name, target, libraries=_strings(libraries, f"engine {name!r}: libraries")
        )

    def exporter(self, name: str, target: str, *, writer: str = "") -> None:
        """Offer a format of ``export``: a function of something fitted that returns its map.

        Parameters
        ----------
        name : str
            Of the format, as ``scaler.export(name)`` and ``normcore export FILE --to name``.
        target : str
            Where the function is: it takes what is exported, and options by keyword. It raises
            ValueError or TypeError for what the format cannot say.
        writer : str, optional
            Where the function is that turns a result into the bytes of a file. Results that are
            str or bytes need none; others without one can be had in Python alone.
        """
        if writer != "" and not (isinstance(writer, str) and _TARGET.fullmatch(writer)):
            raise ValueError(
                f"the writer {writer!r} of exporter {name!r} is not of the form 'module:attribute'"
            )
        self._add("exporter", name, target, writer=writer)

    def _add(
        self,
        kind: str,
        name: str,
        target: str,
        *,
        arrays: tuple[str, ...] = (),
        devices: tuple[str, ...] = (),
        priority: int = 0,
        backend: str = "",
        libraries: tuple[str, ...] = (),
        writer: str = "",
    ) -> None:
        if not self._open:
            raise RuntimeError(f"{self._plugin}: registrations are taken only while its hook runs")
        if kind != "source" and (not isinstance(name, str) or not _NAME.fullmatch(name)):
            raise ValueError(
                f"{name!r} cannot name a {kind}: letters, digits and '_', '-', '.' can"
            )
        if not isinstance(target, str) or not _TARGET.fullmatch(target):
            raise ValueError(
                f"the target {target!r} of {kind} {name!r} is not of the form 'module:attribute'"
            )
        registration = Registration(
            kind, name, target, self._plugin, arrays, devices, priority, backend, libraries, writer
        )
        if registration.key in self._registrations:
            raise ValueError(f"{kind} {name!r} is registered twice")
        self._registrations[registration.key] = registration

    def _close(self) -> list[Registration]:
        """Take no more, and return what there is."""
        self._open = False
        return list(self._registrations.values())


def imported(target: str) -> Any:
    """Return what a target, ``"module:attribute"``, is."""
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def _strings(given: Iterable[str], what: str) -> tuple[str, ...]:
    values = tuple(given)
    if isinstance(given, str) or not all(isinstance(each, str) for each in values):
        raise TypeError(f"{what} is a sequence of strings, not {given!r}")
    return values


class Catalog:
    """The registrations in effect; never changes, :meth:`extended` makes another."""

    def __init__(self, registrations: Iterable[Registration] = ()) -> None:
        self._by_key = {each.key: each for each in registrations}
        self.supplied = {
            each.supplied_name: each for each in self._by_key.values() if each.supplied_name
        }
        #: The engines that may take tables of a library.
        self.engines: dict[str, list[Registration]] = {}
        for each in self._by_key.values():
            for library in each.libraries:
                self.engines.setdefault(library, []).append(each)

    def __iter__(self) -> Iterator[Registration]:
        return iter(self._by_key.values())

    def of_kind(self, kind: str) -> dict[str, Registration]:
        """Return the registrations of a kind other than kernels by name."""
        return {each.name: each for each in self if each.kind == kind}

    def get(self, kind: str, name: str, backend: str = "") -> Registration | None:
        """Return a registration, or None."""
        return self._by_key.get((kind, name, backend))

    def extended(
        self,
        registrations: Iterable[Registration],
        is_core_name: Callable[[str], bool] = lambda name: False,
    ) -> Catalog:
        """Return a catalog with a plugin's registrations added, all of them.

        Raises
        ------
        PluginError
            If one has the name of another, or supplies a name of ``normcore`` itself.
        """
        by_key, supplied = dict(self._by_key), dict(self.supplied)
        for each in registrations:
            other = by_key.setdefault(each.key, each)
            if other is not each:
                raise PluginError(
                    f"{each.plugin}: {each.kind} {each.name!r} is already registered by "
                    f"{other.plugin}"
                )
            name = each.supplied_name
            if name is None:
                continue
            clash = f"{each.plugin}: {each.kind} {each.name!r} would be normcore.{name}, which is "
            if is_core_name(name):
                raise PluginError(f"{clash}a name of normcore itself")
            other = supplied.setdefault(name, each)
            if other.target != each.target:
                raise PluginError(f"{clash}already supplied by {other.plugin}")
        return Catalog(by_key.values())
