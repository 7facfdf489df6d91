"""How operators run on distributed tensors that are sharded over a mesh of processes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

__all__ = ["Placement", "Shardings", "install", "register"]

#: The axis along which a tensor is sharded; "replicate", or "partial": a sum over processes;
#: None for what is no tensor.
Placement: TypeAlias = int | str | None
#: Of the arguments of an operator, ways to shard it: placements of results and of arguments.
Shardings: TypeAlias = Callable[..., Sequence[tuple[Sequence[Placement], Sequence[Placement]]]]

_registered: list[tuple[Any, Shardings | None]] = []


def register(operator: Any, shardings: Shardings | None) -> None:
    """Remember how an operator may be sharded; every one may run on replicated tensors."""
    _registered.append((operator, shardings))


def install() -> None:
    """Tell torch.distributed.tensor, if it is in use at all: importing it takes seconds."""
    if not _registered or "torch.distributed.tensor" not in sys.modules:
        return
    from torch.distributed.tensor import Partial, Replicate, Shard
    from torch.distributed.tensor.experimental import register_sharding

    names = {"replicate": Replicate(), "partial": Partial()}

    def placed(placements: Sequence[Placement]) -> list[Any]:
        return [
            Shard(each) if isinstance(each, int) else names.get(each or "") for each in placements
        ]

    def strategies_of(operator: Any, shardings: Shardings | None) -> Callable[..., Any]:
        number = len(operator._schema.returns)

        def strategies(*arguments: Any) -> list[tuple[list[Any], list[Any]]]:
            is_tensor = [hasattr(each, "placements") for each in arguments]
            replicated = ["replicate" if each else None for each in is_tensor]
            found = [(placed(["replicate"] * number), placed(replicated))]
            for results, inputs in shardings(*arguments) if shardings else ():
                present = [
                    each if there else None
                    for each, there in zip(inputs[: len(is_tensor)], is_tensor, strict=True)
                ]
                found.append((placed(results), placed(present)))
            return found

        return strategies

    while _registered:
        operator, shardings = _registered.pop()
        register_sharding(operator)(strategies_of(operator, shardings))
