"""Layers of normcore beside PyTorch's of the same state, and inputs for them in many layouts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch_examples import normal

import normcore.torch as nt


class Example(NamedTuple):
    """A layer of a name, its arguments, and a shape that it takes."""

    kind: str
    arguments: tuple
    shape: tuple[int, ...]
    training: bool = True
    options: dict = {}  # noqa: RUF012

    @property
    def label(self) -> str:
        return f"{self.kind}{'' if self.training else ' eval'}{' '.join(('', *self.options))}"

    def pair(self, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, nn.Module]:
        """Return normcore's layer and PyTorch's, in the same state, away from the defaults."""
        ours = getattr(nt, self.kind)(*self.arguments, dtype=dtype, **self.options)
        theirs = getattr(nn, self.kind)(*self.arguments, dtype=dtype, **self.options)
        with torch.no_grad():
            for seed, (name, each) in enumerate(ours.state_dict().items()):
                if name != "num_batches_tracked":
                    each.copy_(normal(each.shape, 100 + seed).square() + 0.5)
        theirs.load_state_dict(ours.state_dict())
        return ours.train(self.training), theirs.train(self.training)

    def ours(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        return self.pair(dtype)[0]

    def input(self, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        return (normal(self.shape, seed) * 2 + 1).to(dtype)


EXAMPLES = [
    Example("BatchNorm1d", (3,), (5, 3)),
    Example("BatchNorm2d", (3,), (4, 3, 2, 3)),
    Example("BatchNorm1d", (3,), (5, 3), False),
    Example("BatchNorm2d", (3,), (4, 3, 2, 3), False),
    Example("LayerNorm", (4,), (3, 2, 4)),
    Example("LayerNorm", ((2, 4),), (3, 2, 4), True, {"bias": False}),
    Example("RMSNorm", (4,), (3, 4)),
    Example("GroupNorm", (2, 4), (3, 4, 2)),
    Example("InstanceNorm2d", (3,), (2, 3, 2, 3), True, {"affine": True}),
    Example("InstanceNorm1d", (3,), (2, 3, 4), False, {"track_running_stats": True}),
]


def labels(examples: list[Example]) -> list[str]:
    return [f"{index} {each.label}" for index, each in enumerate(examples)]


def layouts(shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Return float64 tensors of a shape, and others with no elements, in many memory layouts."""
    x = normal(shape) + 1
    found = {
        "contiguous": x,
        "transposed": x.transpose(0, -1).contiguous().transpose(0, -1),
        "reversed": x.permute(*reversed(range(x.ndim))).contiguous().permute(
            *reversed(range(x.ndim))
        ),
        "expanded first": x[:1].expand(shape),
        "expanded channels": x[:, :1].expand(shape),
        "expanded last": x[..., :1].expand(shape),
        "expanded everywhere": x[(slice(0, 1),) * x.ndim].expand(shape),
        "overlapping": normal((x.numel(),)).as_strided(shape, (2, *[1] * (x.ndim - 1))),
        "every third sample": x[::3],
        "from the middle": torch.cat([-x, x])[shape[0] :],
        "sliced": torch.cat([x, x], 1)[:, ::2] * 1,
        "with gaps": torch.cat([x, -x], -1)[..., : shape[-1]],
        "every other": torch.stack([x, -x], -1)[..., 0],
        "no samples": x[:0],
        "no samples, transposed": x.transpose(0, 1)[:, :0].transpose(0, 1),
        "no samples, expanded": x[:0, :1].expand(0, *shape[1:]),
    }  # fmt: skip
    found["sliced"] = torch.stack([x, -x], 2).flatten(1, 2)[:, ::2]
    if x.ndim == 4:
        found["channels last"] = x.to(memory_format=torch.channels_last)
        wide = torch.cat([x, -x], 2).to(memory_format=torch.channels_last)
        found["channels last, with gaps"] = wide[:, :, : shape[2]]
        found["no positions"] = x[:, :, :0]
        found["no positions, channels last"] = found["channels last"][:, :, :0]
    return found
