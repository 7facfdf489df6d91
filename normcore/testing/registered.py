"""The plugin of what is under test, and what else it registers."""

from __future__ import annotations

from normcore.registration.discovery import catalog
from normcore.registration.registry import PluginError, Registration

__all__ = ["assert_usable"]


def assert_usable(registration: Registration) -> None:
    """Assert that everything its plugin registers imports, and is what its kind requires.

    What needs a library that is not installed here is passed over.
    """
    for each in catalog():
        if each.plugin != registration.plugin:
            continue
        try:
            each.resolve()
        except PluginError as error:
            if not _lacks_library(each, error.__cause__):
                raise AssertionError(str(error)) from error


def _lacks_library(registration: Registration, cause: BaseException | None) -> bool:
    if not isinstance(cause, ImportError):
        return False
    own = registration.target.partition(":")[0].partition(".")[0]
    return (cause.name or "").partition(".")[0] != own
