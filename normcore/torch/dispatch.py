"""When PyTorch's dispatcher may be passed by, and what goes by another way altogether."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from types import NoneType
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import handle_torch_function, has_torch_function

from normcore.layout.memory import are_host_memory

__all__ = ["is_plain", "overridable"]

#: Of a normalization: a tensor or several.
Results: TypeAlias = Tensor | tuple[Tensor, ...]

_TENSORS = frozenset({Tensor, torch.nn.Parameter})
_VALUES = frozenset({NoneType, float, int, bool, str})

_num_modes = torch._C._len_torch_dispatch_stack
_are_transforms_active = torch._C._are_functorch_transforms_active
_is_function_mode_enabled = torch._C._is_torch_function_mode_enabled
_tracing_state = torch._C._get_tracing_state
_keys = torch._C._dispatch_keys
#: Dispatch keys of tensors that are nothing but memory on a device.
_PLAIN_KEYS: set[int] = set()


def is_plain(*arguments: object) -> bool:
    """Whether these are eager tensors and numbers, without a mode or transform at work.

    If not, such as under tracing, for fake, dual or distributed tensors, inside of torch.func,
    or with a mode that looks at operators, an operation has to go through the dispatcher.
    """
    if (
        torch.compiler.is_compiling()
        or _num_modes()
        or _are_transforms_active()
        or _is_function_mode_enabled()
        or _tracing_state() is not None
        or forward_ad._current_level >= 0
    ):
        return False
    return are_host_memory(arguments, _TENSORS, _VALUES) or all(map(_is_memory_or_value, arguments))


def _is_memory_or_value(argument: object) -> bool:
    kind = type(argument)
    return kind in _VALUES or (kind in _TENSORS and _is_memory(argument))


def _is_memory(tensor: object) -> bool:
    """Whether a tensor has the dispatch keys that one fresh on its device has; no mode is on."""
    assert isinstance(tensor, Tensor)
    keys = _keys(tensor).raw_repr()
    if keys in _PLAIN_KEYS:
        return True
    if tensor.is_meta:
        return False
    fresh = torch.empty(0, device=tensor.device)
    if keys == _keys(fresh).raw_repr():
        _PLAIN_KEYS.add(keys)
        return True
    return False


def _any_nested(given: Iterable[object]) -> bool:
    """Whether one is a nested tensor, which takes functions of PyTorch's names for PyTorch's."""
    with torch._C.DisableTorchFunctionSubclass():  # others would see this as a call
        return any(isinstance(each, Tensor) and each.is_nested for each in given)


def overridable(theirs: Callable[..., Results]) -> Callable[..., Any]:
    """Decorate a function as those of torch.nn.functional are.

    Tensor-likes and modes with a ``__torch_function__`` take it over, so that torch.fx records a
    call. Exporters to ONNX get `theirs`, PyTorch's function of the same arguments, for which they
    have nodes.
    """

    def decorate(ours: Callable[..., Results]) -> Callable[..., Results]:
        @functools.wraps(ours)
        def function(*arguments: object, **options: object) -> Results:
            given = (*arguments, *options.values()) if options else arguments
            if has_torch_function(given) and not _any_nested(given):
                found: Results = handle_torch_function(function, given, *arguments, **options)
                return found
            if is_exporting_to_onnx():
                options.pop("precision", None)  # the runtime's
                return theirs(*arguments, **options)
            return ours(*arguments, **options)

        return function

    return decorate


def is_exporting_to_onnx() -> bool:
    """Whether a model is being exported, by tracing or by torch.export."""
    traced = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
    return traced and _is_in_onnx_export()


@torch.compiler.assume_constant_result
def _is_in_onnx_export() -> bool:
    return bool(torch.onnx.is_in_onnx_export())
