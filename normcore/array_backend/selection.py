"""Which backend serves an array.

In this order: the one that the caller names, the one of the ``with`` block around it, the one
that fits the array best by its type and the kind of device it is on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from types import MappingProxyType

from numpy import ndarray

from normcore.array_backend.abstract import IN_ANY_ORDER, Backend
from normcore.array_backend.status import BackendStatus, Misconfigured
from normcore.layout.namespace import Array
from normcore.registration.discovery import catalog
from normcore.registration.registry import DEVICE_KINDS, Catalog, PluginError, Registration
from normcore.threads.immortal import make_immortal

__all__ = [
    "backends",
    "first_choice",
    "get_backend",
    "in_order_with",
    "of_plain_call",
    "require_device_backend",
    "select_backend",
    "use_backend",
]

_in_context: ContextVar[Backend | None] = ContextVar("normcore_backend", default=None)
_lock = threading.Lock()
_instances: dict[Registration, Backend] = {}


class _Choices:
    """What has been chosen so far, for one state of the catalog."""

    def __init__(self, of: Catalog) -> None:
        self.catalog = of
        self.by_name: dict[str, Backend] = {}
        #: Kinds of devices that have a backend of their own which is ready, or are no one's.
        self.with_own_backend: set[str] = set()
        # Those to try in turn for arrays of a type on a kind of device; for NumPy's by type alone.
        self.by_kind: dict[type | tuple[type, str], tuple[Backend, ...]] = {}


_choices = _Choices(Catalog())


def backends() -> Mapping[str, BackendStatus]:
    """Return the status of every registered backend by name: ready, or why not, in words.

    Examples
    --------
    >>> import normcore as nc
    >>> nc.backends()["cpu"].ready
    True
    """
    found = catalog().of_kind("backend")
    return MappingProxyType({name: _status(each) for name, each in found.items()})


def get_backend(name: str) -> Backend:
    """Return the backend registered under ``name``, always the same instance.

    Parameters
    ----------
    name : str
        One of those that :func:`backends` lists.

    Raises
    ------
    ValueError
        If there is none of that name.
    RuntimeError
        If it cannot be used here; the message says why.

    Examples
    --------
    >>> import normcore as nc
    >>> nc.get_backend("cpu").name
    'cpu'
    """
    choices = _current_choices()
    found = choices.by_name.get(name)
    if found is not None:
        return found
    registration = choices.catalog.get("backend", name)
    if registration is None:
        known = "; ".join(
            each if status.ready else f"{each} (not ready: {status.reason})"
            for each, status in sorted(backends().items())
        )
        raise ValueError(f"there is no backend {name!r}; known: {known}")
    return choices.by_name.setdefault(name, _instance(registration))


@contextmanager
def use_backend(name: str | Backend) -> Iterator[Backend]:
    """Use one backend for everything in a ``with`` block that does not name its own.

    It holds for the running thread or asynchronous task; threads started in the block are not
    included.

    Parameters
    ----------
    name : str or Backend
        As for :func:`get_backend`, which also says what is raised; or a backend itself.

    Examples
    --------
    >>> import normcore as nc
    >>> with nc.use_backend("reference"):
    ...     scaler = nc.StandardScaler().fit([[0.0], [2.0]])
    >>> scaler.mean_
    array([1.])
    """
    backend = _named(name)
    token = _in_context.set(backend)
    try:
        yield backend
    finally:
        _in_context.reset(token)


def select_backend(array: Array, backend: str | Backend | None = None) -> Backend:
    """Return the backend that is to work on ``array``.

    Without one that is named, here or by :func:`use_backend`, it is chosen among those that are
    ready and serve the array's kind of device: first those that name its type, then by priority,
    then those that name the device; one that refuses to adopt the array gives way to the next.

    Parameters
    ----------
    array : array of any library
        Taken as on the host where it does not name a device.
    backend : str or Backend, optional
        The backend to use whatever the array.

    Raises
    ------
    TypeError
        If ``backend`` is neither a name nor a Backend.
    ValueError, RuntimeError
        As for :func:`get_backend`.
    """
    if backend is not None:
        return _named(backend)
    in_context = _in_context.get()
    if in_context is not None:
        return in_context
    choices = _current_choices()
    array_type = type(array)
    plain = array_type is ndarray
    device = "cpu" if plain else _device_kind(array)
    kind = array_type if plain else (array_type, device)
    candidates = choices.by_kind.get(kind)
    if candidates is None:
        candidates = _candidates(choices.catalog, array_type, device)
        make_immortal(choices, choices.catalog, choices.by_kind, candidates, *candidates)
        choices.by_kind[kind] = candidates
    if len(candidates) == 1:
        return candidates[0]
    for candidate in candidates:
        try:
            candidate.adopt(array)
        except Exception:  # whatever the array's library raises where it cannot export
            continue
        return candidate
    return candidates[0]  # refused by all, so it is for its adopt to say what is wrong


def in_order_with(
    array: Array, backend: str | Backend | None = None
) -> AbstractContextManager[None]:
    """Return the context to work on a caller's array in: its backend's `in_order_with`.

    Parameters and errors are those of :func:`select_backend`.
    """
    if type(array) is ndarray or not hasattr(array, "__dlpack_device__"):
        return IN_ANY_ORDER
    return select_backend(array, backend).in_order_with(array)


def first_choice(array: Array, backend: str | Backend | None = None) -> Backend:
    """Return the backend that :func:`select_backend` tries first; it may not adopt the array.

    Parameters and errors are those of :func:`select_backend`.
    """
    if backend is None and _in_context.get() is None:
        found = _current_choices().by_kind.get((type(array), _device_kind(array)))
        if found is not None:
            return found[0]
    return select_backend(array, backend)


def of_plain_call(array: Array, backend: str | Backend | None, *options: object) -> Backend | None:
    """Return the first choice for an array that is no list and not NumPy's; None with an option.

    Parameters and errors are those of :func:`select_backend`.
    """
    if type(array) is ndarray:
        return None
    for each in options:
        if each is not None:
            return None
    return first_choice(array, backend) if hasattr(array, "__dlpack_device__") else None


def require_device_backend(array: Array) -> None:
    """Refuse to do without the backends of the device that an array is on.

    Raises
    ------
    RuntimeError
        If backends are registered for this kind of device, but none of them is ready.
    """
    choices, device = _current_choices(), _device_kind(array)
    if device in choices.with_own_backend:
        return
    registered = choices.catalog.of_kind("backend").values()
    own = sorted((each for each in registered if device in each.devices), key=_priority)
    if own and not any(_status(each).ready for each in own):
        raise _not_ready_error(own[0], f", which serves arrays on {device!r},")
    choices.with_own_backend.add(device)


def _priority(registration: Registration) -> tuple[int, str]:
    return -registration.priority, registration.name


def _named(backend: str | Backend) -> Backend:
    if isinstance(backend, str):
        return get_backend(backend)
    if not isinstance(backend, Backend):
        raise TypeError(f"a backend is a name or a normcore.Backend, not {backend!r}")
    return backend


def _current_choices() -> _Choices:
    global _choices
    known, choices = catalog(), _choices
    if choices.catalog is not known:
        _choices = choices = _Choices(known)
    return choices


def _device_kind(array: Array) -> str:
    device = getattr(array, "__dlpack_device__", None)
    if device is None:
        return "cpu"
    try:
        return DEVICE_KINDS.get(int(device()[0]), "unknown")
    except Exception:  # not on one device, or on none, as PyTorch's "meta"
        return "unknown"


def _candidates(known: Catalog, array_type: type, device: str) -> tuple[Backend, ...]:
    """Return the backends to try in turn: one alone if the best names the type as its own."""
    names = {f"{each.__module__}.{each.__qualname__}" for each in array_type.__mro__}

    def rank(each: Registration) -> tuple[bool, int, bool, str]:
        return names.isdisjoint(each.arrays), -each.priority, device not in each.devices, each.name

    serving = sorted(
        (
            each
            for each in known.of_kind("backend").values()
            if device in each.devices or "*" in each.devices
        ),
        key=rank,
    )
    own = [each for each in serving if not names.isdisjoint(each.arrays)]
    ready = [each for each in serving if _status(each).ready]
    if own and own[0] not in ready and (not ready or ready[0] not in own):
        # One that serves all kinds would work, many times slower, and nobody would know why.
        raise _not_ready_error(
            own[0], f", which serves {array_type.__module__}.{array_type.__qualname__},"
        )
    serving = ready
    if not serving:
        raise RuntimeError(
            f"no backend that is ready serves {array_type.__module__}.{array_type.__qualname__} "
            f"on {device!r}; `normcore backends` lists them"
        )
    if not names.isdisjoint(serving[0].arrays):
        del serving[1:]
    return tuple(_instance(each) for each in serving)


def _status(registration: Registration) -> BackendStatus:
    try:
        status = registration.resolve().probe()
        if isinstance(status, Misconfigured):
            return status
        if not isinstance(status, tuple):
            reason = f"its probe must return normcore.BackendStatus, not {status!r}"
            return BackendStatus(False, f"{registration.plugin}: {reason}")
        return BackendStatus(*status)
    except PluginError as error:
        return BackendStatus(False, str(error))
    except Exception as error:
        reason = f"{registration.plugin}: its probe failed: {type(error).__name__}: {error}"
        return BackendStatus(False, reason)


def _not_ready_error(registration: Registration, whose: str = "") -> Exception:
    """Return the error of asking for a backend that is not ready."""
    status = _status(registration)
    kind = ValueError if isinstance(status, Misconfigured) else RuntimeError
    return kind(f"backend {registration.name!r}{whose} is not ready: {status.reason}")


def _instance(registration: Registration) -> Backend:
    known = _instances.get(registration)
    if known is not None:
        return known
    if not _status(registration).ready:
        raise _not_ready_error(registration)
    try:
        backend: Backend = registration.resolve()()
    except Exception as error:
        raise RuntimeError(
            f"{registration.plugin}: backend {registration.name!r} is ready but cannot be made: "
            f"{type(error).__name__}: {error}"
        ) from error
    with _lock:
        return _instances.setdefault(registration, backend)
