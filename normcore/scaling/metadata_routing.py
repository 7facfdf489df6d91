"""Which arguments of methods scikit-learn's metadata routing supplies."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from normcore.scaling.estimator import Estimator

__all__ = ["RequestMethod", "metadata_of", "metadata_request"]

# Arguments of methods that are data or buffers, not metadata to be routed.
NOT_METADATA = frozenset({"self", "X", "y", "out", "columns"})
ROUTED_METHODS = ("fit", "partial_fit", "transform", "inverse_transform")


def metadata_request(estimator: Estimator) -> Any:
    """Return scikit-learn's ``MetadataRequest``: which methods take which metadata."""
    routing = importlib.import_module("sklearn.utils.metadata_routing")
    known = estimator.__dict__.get("_metadata_request")
    if known is not None:
        return routing.get_routing_for_object(known)
    request = routing.MetadataRequest(owner=estimator)
    for method in ROUTED_METHODS:
        for name in metadata_of(type(estimator), method):
            getattr(request, method).add_request(param=name, alias=None)
    return request


def metadata_of(cls: type, method: str) -> tuple[str, ...]:
    """Return the arguments of a method that metadata routing may supply."""
    function = getattr(cls, method, None)
    if not callable(function):
        return ()
    return tuple(
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in NOT_METADATA
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    )


class RequestMethod:
    """Descriptor of ``set_{method}_request``; absent where the method takes no metadata."""

    def __init__(self, method: str) -> None:
        self.method = method

    def __get__(self, instance: Estimator | None, owner: type) -> Callable[..., Estimator]:
        method = self.method
        keys = metadata_of(owner, method)
        has_method = hasattr(owner if instance is None else instance, method)
        if not (keys and has_method):
            raise AttributeError(f"{owner.__name__!r} has no metadata to request in {method}")

        def request(*args: Any, **requests: object) -> Estimator:
            target, args = (args[0], args[1:]) if instance is None else (instance, args)
            return _request(target, method, keys, args, requests)

        request.__name__ = f"set_{method}_request"
        request.__doc__ = (
            f"Set which metadata a meta-estimator passes to ``{method}``: True, False, None (an "
            f"error if given) or the name it goes by there.\n\nAccepts {', '.join(keys)}. Needs "
            "``sklearn.set_config(enable_metadata_routing=True)``."
        )
        return request


def _request(
    estimator: Estimator,
    method: str,
    keys: tuple[str, ...],
    args: tuple[object, ...],
    requests: Mapping[str, object],
) -> Estimator:
    routing = importlib.import_module("sklearn.utils.metadata_routing")
    sklearn = sys.modules["sklearn"]
    if not sklearn.get_config().get("enable_metadata_routing"):
        raise RuntimeError(
            "This method is only available when metadata routing is enabled. You can enable it "
            "using sklearn.set_config(enable_metadata_routing=True)."
        )
    if args:
        raise TypeError(f"set_{method}_request() takes no positional argument, got {len(args)}")
    unknown = sorted(set(requests) - set(keys))
    if unknown:
        raise TypeError(f"Unexpected args: {unknown} in {method}. Accepted arguments are: {keys}")
    metadata = estimator.get_metadata_routing()
    for name, alias in requests.items():
        if alias != routing.UNCHANGED:
            getattr(metadata, method).add_request(param=name, alias=alias)
    estimator._metadata_request = metadata
    return estimator
