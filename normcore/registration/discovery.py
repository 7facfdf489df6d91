"""Finding plugins and running their hooks.

Plugins are entry points of the group ``normcore``. They are looked for once, when a name is first
needed that one of them might supply. Modules are imported without holding the lock, since another
thread may be importing one of them and be waiting for it; hooks run under the lock.
"""

from __future__ import annotations

import inspect
import os
import re
import threading
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

import pluggy

from normcore.package import public_names
from normcore.package.callers_warning import warn_caller
from normcore.registration import builtin, hookspecs
from normcore.registration.registry import (
    Catalog,
    Plugin,
    PluginError,
    PluginWarning,
    Registration,
    Registry,
)

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

__all__ = ["canonical", "catalog", "known_supplied_names", "register"]

GROUP = "normcore"
DISTRIBUTION = "normcore-arrays"
HOOK = "normcore_register"
_POSITIONAL = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD

_lock = threading.RLock()
_thread = threading.local()  # .busy: this thread is importing plugins or running their hooks
_manager: pluggy.PluginManager | None = None
_catalog = Catalog()
_discovered = False


class _Loaded(NamedTuple):
    """An imported entry point, or why there is none."""

    plugin: Plugin
    module: object = None
    problem: str = ""


def catalog() -> Catalog:
    """Return the registrations in effect, after looking for plugins if that has not been done.

    Raises
    ------
    PluginError
        If a plugin asks while plugins are being looked for.
    """
    if not _discovered:
        _discover()
    return _catalog


def known_supplied_names(submodule: str = "") -> list[str]:
    """Return the names that plugins found so far supply to ``normcore``, or to a submodule."""
    split = [name.rpartition(".") for name in _catalog.supplied]
    return [attribute for module, _, attribute in split if module == submodule]


def register(plugin: object) -> None:
    """Register a plugin that has no entry point, or whose metadata a frozen program lacks.

    Parameters
    ----------
    plugin : module or object
        Has the function or method ``normcore_register``, marked with :data:`normcore.hookimpl`.
        One that is registered already is left as it is.

    Raises
    ------
    PluginError
        If it has no hook that can be called, its hook raises, a name is taken, a kernel is for a
        backend that no plugin has, or a target that is imported already is not what its kind
        requires, as a scaler that derives from none of normcore's; other targets are looked at
        when they are first used. Nothing of it is registered then. A plugin found through an entry
        point later on is the one that is refused if the two share a name.

    Examples
    --------
    >>> import normcore as nc
    >>> class Plugin:
    ...     @nc.hookimpl
    ...     def normcore_register(self, registry):
    ...         registry.function("of_example", "operator:neg")
    >>> nc.register(Plugin())
    >>> nc.of_example(1)
    -1
    """
    with _lock:
        manager = _started_manager()
        if manager.is_registered(plugin):
            return
        name = getattr(plugin, "__name__", None) or type(plugin).__qualname__
        taken = _take(manager, plugin, Plugin(name))
    if _unknown_backend(taken) and not _is_busy() and not _disabled():
        try:
            catalog()  # which may have the backend; its warnings may be errors
            problem = _unknown_backend(taken)
            if problem:
                raise PluginError(f"{problem}. Register the plugin that has it first")
        except BaseException:
            with _lock:
                _give_back(manager, plugin, taken)
            raise


def _discover() -> None:
    """Find all plugins and take what they register; a broken one is warned about."""
    global _discovered
    if _is_busy():
        raise PluginError(
            "a plugin asked for what plugins supply while plugins are being looked for; the module "
            "with the hook should import little, and names from where they are defined"
        )
    found = _load_entry_points()
    with _lock:
        if _discovered:  # by another thread
            return
        manager = _started_manager()
        problems, taken = [], []
        for plugin, module, problem in found:
            if not problem and not manager.is_registered(module):
                try:
                    taken.append((module, _take(manager, module, plugin)))
                except PluginError as error:
                    problem = str(error)
            if problem:
                problems.append(problem)
        if not problems and not _disabled():  # or who knows what backends there would be
            problems = _refuse_unknown_backends(manager, taken)
        _discovered = True
    for problem in problems:  # after everything has taken effect: a warning may be an error
        warn_caller(f"{problem}. It is not used.", PluginWarning)


def _started_manager() -> pluggy.PluginManager:
    """Return the manager, which knows the core's own registrations from the start."""
    global _manager
    if _manager is None:
        manager = pluggy.PluginManager("normcore")
        manager.add_hookspecs(hookspecs)
        _take(manager, builtin, Plugin("core", DISTRIBUTION, public_names.__version__))
        _manager = manager
    return _manager


def _take(manager: pluggy.PluginManager, module: object, plugin: Plugin) -> list[Registration]:
    """Run the hook of a plugin and put its registrations into effect, all or none."""
    global _catalog
    try:
        registrations = _run_hook(manager, module, plugin)
        for each in registrations:
            each.check_loaded()
        is_core_name = _is_core_name if module is not builtin else lambda name: False
        _catalog = _catalog.extended(registrations, is_core_name)
    except BaseException:
        if manager.is_registered(module):
            manager.unregister(module)
        raise
    return registrations


def _give_back(manager: pluggy.PluginManager, module: object, taken: list[Registration]) -> None:
    """Take the registrations of a plugin out of effect."""
    global _catalog
    _catalog = Catalog(each for each in _catalog if each not in taken)
    manager.unregister(module)


def _unknown_backend(taken: list[Registration]) -> str:
    """Return what is wrong if a kernel is for a backend that is not registered."""
    known = _catalog.of_kind("backend")
    for each in taken:
        if each.kind == "kernel" and each.backend not in known:
            return (
                f"{each.plugin}: kernel {each.name!r} is for the backend {each.backend!r}, which "
                f"no plugin registers; known: {', '.join(sorted(known))}"
            )
    return ""


def _refuse_unknown_backends(
    manager: pluggy.PluginManager, taken: list[tuple[object, list[Registration]]]
) -> list[str]:
    """Give back plugins with kernels for unknown backends; return what is wrong with them."""
    problems = []
    refused = True
    while refused:  # the backend of another's kernel may go with a plugin
        refused = False
        for module, registrations in taken:
            problem = _unknown_backend(registrations) if manager.is_registered(module) else ""
            if problem:
                _give_back(manager, module, registrations)
                problems.append(problem)
                refused = True
    return problems


def _run_hook(manager: pluggy.PluginManager, module: object, plugin: Plugin) -> list[Registration]:
    _check_signature(plugin, getattr(module, HOOK, None))
    try:
        manager.register(module, name=f"{plugin.name} {id(module)}")
    except Exception as error:  # a hook with other arguments, or an object that cannot be searched
        raise PluginError(f"{plugin}: {' '.join(str(error).split())}") from error
    callers = manager.get_hookcallers(module) or []
    for caller in callers:
        if not caller.has_spec() and not all(
            each.optionalhook for each in caller.get_hookimpls() if each.plugin is module
        ):
            raise PluginError(f"{plugin}: there is no hook {caller.name!r}")
    if HOOK not in {caller.name for caller in callers}:
        raise PluginError(f"{plugin}: {_why_no_hook(module)}")
    for each in getattr(manager.hook, HOOK).get_hookimpls():
        if each.plugin is module:
            _check_signature(plugin, each.function)
    others = [each for each in manager.get_plugins() if each is not module]
    registry = Registry(plugin)
    was_busy, _thread.busy = _is_busy(), True
    try:
        manager.subset_hook_caller(HOOK, remove_plugins=others)(registry=registry)
    except PluginError as error:
        raise PluginError(f"{plugin}: its hook failed: {error}") from error
    except (Exception, SystemExit) as error:
        raise PluginError(f"{plugin}: its hook failed: {type(error).__name__}: {error}") from error
    finally:
        _thread.busy = was_busy
        registrations = registry._close()
    return registrations


def _check_signature(plugin: Plugin, function: object) -> None:
    """Refuse a hook that would not be called with the registry, or not run when it is called.

    Pluggy calls one without parameters, or with another one that has a default, all the same.
    """
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        return
    parameters = list(inspect.signature(function).parameters.values())
    if (
        [each.name for each in parameters] != ["registry"]
        or parameters[0].default is not parameters[0].empty
        or parameters[0].kind not in _POSITIONAL
    ):
        raise PluginError(
            f"{plugin}: its hook is {function.__name__}{inspect.signature(function)}, but takes "
            f"one argument: {HOOK}(registry)"
        )
    if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        raise PluginError(
            f"{plugin}: its hook {function.__name__} is a generator or a coroutine, whose lines "
            "do not run when it is called; make it a plain function"
        )


def _why_no_hook(module: object) -> str:
    name = getattr(module, "__name__", type(module).__qualname__)
    function = getattr(module, HOOK, None)
    if function is None:
        return f"{name!r} has no function {HOOK}"
    if getattr(function, "normcore_impl", None) is None:
        return f"the {HOOK} of {name!r} is not marked with @normcore.hookimpl"
    return (
        f"the {HOOK} of {name!r} is a {type(function).__name__}, which pluggy does not call; "
        "a hook must be a plain Python function, not a compiled one"
    )


def _is_core_name(name: str) -> bool:
    submodule, _, attribute = name.rpartition(".")
    if submodule:
        return attribute in vars(import_module(f"normcore.{submodule}"))
    return name in public_names.ALL or find_spec(f"normcore.{name}") is not None


# -- entry points ------------------------------------------------------------------------------


def _load_entry_points() -> list[_Loaded]:
    """Import the module of each entry point that is not disabled, our own distribution's first."""
    disabled = _disabled()
    loaded = []
    _thread.busy = True
    try:
        for distribution in _distributions():
            for entry_point, plugin, problem in _entry_points_of(distribution):
                names = {canonical(plugin.name), canonical(plugin.distribution)}
                if not names & disabled:
                    loaded.append(
                        _Loaded(plugin, problem=f"{plugin}: {problem}")
                        if entry_point is None
                        else _load(entry_point, plugin)
                    )
    finally:
        _thread.busy = False
    return loaded


def _disabled() -> set[str]:
    """Return the names of plugins and distributions that are not to be loaded."""
    given = os.environ.get("NORMCORE_DISABLED_PLUGINS", "").split(",")
    return {canonical(name) for name in given if name.strip()}


def _is_busy() -> bool:
    """Whether this thread is importing plugins or running their hooks."""
    return getattr(_thread, "busy", False)


def _load(entry_point: EntryPoint, plugin: Plugin) -> _Loaded:
    try:
        module = entry_point.load()
        getattr(module, HOOK, None)  # executes a module that importlib.util.LazyLoader put off
        return _Loaded(plugin, module)
    except (Exception, SystemExit) as error:
        return _Loaded(
            plugin,
            problem=f"{plugin}: its entry point {entry_point.value!r} does not import: "
            f"{type(error).__name__}: {error}",
        )


def _distributions() -> list[Distribution]:
    """Return the distributions that name the group, each as the first of its name on the path."""
    from importlib import metadata  # slow to import

    found: dict[str, Distribution] = {}
    for each in metadata.distributions():
        try:
            ours = f"[{GROUP}]" in (each.read_text("entry_points.txt") or "")
            if ours and "Name" in each.metadata:
                active = metadata.distribution(each.name)
                found.setdefault(canonical(active.name), active)
        except Exception:  # unreadable metadata: no distribution of ours
            continue
    return [found[name] for name in sorted(found, key=lambda name: (name != DISTRIBUTION, name))]


def _entry_points_of(
    distribution: Distribution,
) -> Iterable[tuple[EntryPoint | None, Plugin, str]]:
    """Yield entry points by name; None, and why, where the metadata cannot be read."""
    name, version = distribution.name, distribution.version
    try:
        for each in sorted(distribution.entry_points.select(group=GROUP), key=lambda ep: ep.name):
            yield each, Plugin(each.name, name, version), ""
    except Exception as error:
        problem = f"its entry_points.txt cannot be read: {type(error).__name__}: {error}"
        yield None, Plugin("?", name, version), problem


def canonical(name: str) -> str:
    """Return the name of a distribution as all its spellings are compared."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
