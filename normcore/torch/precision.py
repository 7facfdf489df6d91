"""In which precision a normalization of tensors computes: the one it names, or the context's.

Operators take its name; and a tensor, in the place of the name, where a model is compiled: the
context is then asked each time the compiled model runs. The backward pass has what its forward pass
had.
"""

# Annotations are not postponed: torch.library reads schemas from them.

import torch
from torch import Tensor

from normcore.array_backend.precision import PRECISIONS, resolved

__all__ = ["choice", "named"]

_LIBRARY = torch.library.Library("normcore", "FRAGMENT")


def _of_context(beside: Tensor) -> Tensor:
    """Return the number of the context's precision; on the host, wherever a tensor is."""
    return torch.tensor(PRECISIONS.index(resolved(None)), dtype=torch.int64)


def _fake(beside: Tensor) -> Tensor:
    return torch.empty((), dtype=torch.int64)


_LIBRARY.define(
    "precision" + torch.library.infer_schema(_of_context, mutates_args=()),
    tags=(torch.Tag.pt2_compliant_tag,),
)
_LIBRARY.impl("precision", _of_context, "CompositeExplicitAutograd")
torch.library.register_fake("normcore::precision", _fake, lib=_LIBRARY)


def choice(precision: str | None, beside: Tensor) -> tuple[str, Tensor | None]:
    """Return the two arguments of an operator that say in which precision to compute.

    Raises
    ------
    ValueError
        If there is no such precision.
    """
    if precision in PRECISIONS:  # traced by Dynamo, which does not enter the core's compiled checks
        return precision, None
    if precision is None and torch.compiler.is_compiling():
        return "", torch.ops.normcore.precision(beside.detach())
    return resolved(precision), None


def named(precision: str, chosen: Tensor | None) -> str:
    """Return the name of the precision that the two arguments of an operator say."""
    return precision if chosen is None else PRECISIONS[int(chosen)]
