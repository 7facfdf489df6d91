"""Blocks of positions of an (N, C, S) view, so that temporaries keep a fixed size."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["Block", "blocks"]

Block = tuple[slice, slice]


def blocks(shape: tuple[int, ...], num_elements: int) -> Iterator[Block]:
    """Yield slices of N and of S that cover the view, in order.

    Each block has at most ``num_elements`` elements over all channels, or one position where
    the channels alone are more. A view without elements has no blocks.
    """
    num_samples, num_channels, num_inner = shape
    if 0 in shape:
        return
    num_positions = max(1, num_elements // num_channels)
    inner_step = min(num_inner, num_positions)
    step = max(1, num_positions // num_inner)
    # The array API leaves slices that stop beyond the end open.
    for start in range(0, num_samples, step):
        rows = slice(start, min(start + step, num_samples))
        for inner in range(0, num_inner, inner_step):
            yield rows, slice(inner, min(inner + inner_step, num_inner))
