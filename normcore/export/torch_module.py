"""The module that a scaler becomes; needs PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from normcore.export.column_map import ColumnMap

__all__ = ["ColumnMapModule"]


class ColumnMapModule(nn.Module):
    """``((x - center) / scale) * gamma + beta`` of each column in float64, then clipped.

    Parameters
    ----------
    forward, inverse : sequence of ColumnMap
        The maps of tables of float64, float32 and float16, in this order. Without an inverse the
        latter is empty.
    no_inverse : str
        Why there is none.
    """

    def __init__(
        self, forward: Sequence[ColumnMap], inverse: Sequence[ColumnMap], no_inverse: str = ""
    ) -> None:
        super().__init__()
        self.register_buffer("coefficients", _stacked(forward))
        self.register_buffer("inverse_coefficients", _stacked(inverse or forward))
        self.no_inverse = no_inverse
        self.clips = forward[0].bounds is not None
        self.lower = [0.0 if each.bounds is None else each.bounds[0] for each in forward]
        self.upper = [0.0 if each.bounds is None else each.bounds[1] for each in forward]

    def forward(self, x: Tensor) -> Tensor:
        """Return a table scaled: its last axis is that of the columns."""
        place = self.place(x)
        y = self.mapped(x, self.coefficients[place])
        if self.clips:
            y = torch.clamp(y, self.lower[place], self.upper[place])
        return self.stored(y, x)

    @torch.jit.export
    def inverse(self, y: Tensor) -> Tensor:
        """Return a scaled table as it was."""
        if self.no_inverse:
            raise ValueError(self.no_inverse)
        return self.stored(self.mapped(y, self.inverse_coefficients[self.place(y)]), y)

    def mapped(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return the map by center, scale, gamma and beta, in float64."""
        if x.dim() == 0 or x.shape[-1] != rows.shape[1]:  # one column would be broadcast
            raise ValueError(f"x must have {rows.shape[1]} columns, got shape {list(x.shape)}")
        if x.is_complex():
            raise ValueError("x must hold real numbers, and is complex")
        return (x.to(torch.float64) - rows[0]) / rows[1] * rows[2] + rows[3]

    def place(self, x: Tensor) -> int:
        """Return which of the maps is that of a dtype."""
        if x.dtype == torch.float32 or x.dtype == torch.bfloat16:
            return 1
        return 2 if x.dtype == torch.float16 else 0

    def stored(self, y: Tensor, x: Tensor) -> Tensor:
        """Return a result in the dtype of ``x``, or in float64 if that is none of floats."""
        if not x.is_floating_point():
            return y
        if x.dtype == torch.bfloat16:  # as transform does
            y = y.to(torch.float32)
        return y.to(x.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ColumnMapModule:
        """Move to another device; float64 stays, also where a whole model becomes narrower."""
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = buffer.to(fn(buffer).device)
        return self

    def extra_repr(self) -> str:
        """Return what stands in the brackets of its representation."""
        return f"{self.coefficients.shape[2]} columns, clips={self.clips}"


def _stacked(maps: Sequence[ColumnMap]) -> Tensor:
    return torch.from_numpy(np.stack([each.coefficients for each in maps]))
