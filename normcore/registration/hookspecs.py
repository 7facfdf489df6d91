"""The hook that plugins implement.

This module and every module with a hook in it stay plain Python: pluggy does not see compiled
functions.
"""

from pluggy import HookimplMarker, HookspecMarker

from normcore.registration.registry import Registry

__all__ = ["hookimpl", "hookspec", "normcore_register"]

hookspec = HookspecMarker("normcore")

#: Marks a plugin's function as the implementation of a hook.
hookimpl = HookimplMarker("normcore")


@hookspec
def normcore_register(registry: Registry) -> None:
    """Register everything that a plugin offers.

    Called once per plugin in a process: when the first name is asked for that a plugin might
    supply, or by :func:`normcore.register`. The core's own names come first, then those of
    plugins a host registered, then the other distributions' in alphabetical order. The result is
    ignored. Registrations take effect together when the function has returned; if it raises, or
    if a kernel is for a backend that no plugin has, none does.

    Targets are strings of the form ``"module:attribute"`` and are imported when they are first
    used. The function, and the module it stands in, should import nothing expensive.

    Parameters
    ----------
    registry : Registry
        Takes the registrations of this plugin, during this call only.
    """
