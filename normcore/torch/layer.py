"""What all layers share: how they meet PyTorch's tools for whole models."""

from __future__ import annotations

import copy

from torch import Tensor, fx, nn

from normcore.array_backend.precision import check_precision

__all__ = ["Layer", "as_theirs", "check_model", "refusal"]


class Layer:
    """A normalization layer of normcore; its classes derive from PyTorch's layers too.

    Parameters
    ----------
    *arguments, **options
        Those of PyTorch's layer.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`); an attribute, too.
    """

    #: PyTorch's layer of the same state and behaviour.
    counterpart: type[nn.Module]
    #: Of layers whose class was changed, too.
    precision: str | None = None

    def __init__(self, *arguments: object, precision: str | None = None, **options: object) -> None:
        super().__init__(*arguments, **options)
        self.precision = check_precision(precision)

    def extra_repr(self) -> str:
        """Describe the layer as PyTorch does, and name its precision if it has one."""
        described: str = super().extra_repr()  # type: ignore[misc]
        if self.precision is None:
            return described
        return ", ".join(filter(None, (described, f"precision={self.precision!r}")))

    def _record(self, *inputs: Tensor | fx.Proxy | None) -> fx.Proxy | None:
        """Have torch.fx record a call of this layer, as it does of PyTorch's.

        None where it has no name, as it traces just this layer.
        """
        tracer = next(each for each in inputs if isinstance(each, fx.Proxy)).tracer
        root = getattr(tracer, "root", None)
        if root is None or root is self:
            return None
        path = tracer.path_of_module(self)
        return tracer.create_proxy("call_module", path, inputs, {})

    def __prepare_scriptable__(self) -> nn.Module:
        """Return PyTorch's layer, which torch.jit.script takes in the place of this one."""
        return as_theirs(copy.copy(self), "torch.jit.script")


def check_model(model: nn.Module, name: str) -> None:
    """Refuse what is no module."""
    if not isinstance(model, nn.Module):
        kind = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise TypeError(f"the model that {name} takes must be a torch.nn.Module, not {kind}")


def as_theirs(layer: nn.Module, what: str) -> nn.Module:
    """Make a layer PyTorch's, in place."""
    kind = type(layer)
    counterpart = vars(kind).get("counterpart")
    if counterpart is None:
        raise NotImplementedError(
            f"{what} needs PyTorch's layers, of which {kind.__module__}.{kind.__qualname__} is "
            "none: only normcore.torch's own classes have counterparts, not those derived from them"
        )
    reason = refusal(layer)
    if reason is not None:
        raise ValueError(
            f"{what} needs PyTorch's layers, which {reason[0]}, unlike this {kind.__name__} of "
            f"normcore; {reason[1]}"
        )
    layer.__class__ = counterpart
    return layer


def refusal(layer: nn.Module) -> tuple[str, str] | None:
    """Return why a layer cannot become PyTorch's and what to do, in words, or None."""
    if getattr(layer, "frozen", False):
        return "cannot be frozen", "call freeze(False), and eval() where it is not to be trained"
    if getattr(layer, "weight_offset", 0.0):
        return "have no weight_offset", "add it to the weight, and set it to 0"
    return None
