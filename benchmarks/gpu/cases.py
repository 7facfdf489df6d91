"""The cases of the table in the order of their worth: shapes, dtypes, layouts, and their jobs."""

from __future__ import annotations

import math
from functools import cached_property
from typing import NamedTuple

import cupy
import numpy as np

from benchmarks.gpu import common, images, layers, tables
from benchmarks.gpu.jobs import COPY, Job
from normcore.layout.namespace import Array

__all__ = ["Buffers", "Case", "cases"]

TABLES = [(4_000_000, 64), (10_000_000, 8), (4_000, 65_536)]
IMAGES = [(256, 64, 56, 56), (64, 3, 224, 224), (128, 512, 7, 7)]
#: Batches that the L2 holds, whose batch norm takes one launch.
CACHED = [(32, 128, 28, 28)]
ROWS = [(8192, 4096), (65_536, 1024)]
SMALL = [(1, 30), (64, 256), (1024, 1024)]
#: What all buffers of a case should hold: several times the L2.
ROTATED_BYTES = 512 << 20
MOST_BUFFERS = 16


class Case(NamedTuple):
    """An array, and what is measured on it; the copy comes first."""

    shape: tuple[int, ...]
    dtype: str
    channels_last: bool
    jobs: tuple[Job, ...]

    @property
    def name(self) -> str:
        """The dtype, and the layout where it is not the usual one."""
        return self.dtype + (" channels last" if self.channels_last else "")


class Buffers:
    """Several equal arrays of a case, made when a job asks for them."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.num_bytes = math.prod(case.shape) * np.dtype(case.dtype).itemsize
        self.number = max(2, min(MOST_BUFFERS, ROTATED_BYTES // (2 * self.num_bytes)))

    @cached_property
    def x(self) -> list[Array]:
        """Input, of mean 3 and variance 1."""
        return self._filled(3.0)

    @cached_property
    def dy(self) -> list[Array]:
        """Gradients of the output."""
        return self._filled(0.0)

    @cached_property
    def out(self) -> list[Array]:
        """Memory for results."""
        return [cupy.empty_like(each) for each in self.x]

    @cached_property
    def tensors(self) -> list[Array]:
        """The input as tensors."""
        return self._lent(self.x)

    @cached_property
    def gradients(self) -> list[Array]:
        """``dy`` as tensors."""
        return self._lent(self.dy)

    def _lent(self, arrays: list[Array]) -> list[Array]:
        torch = common.cuda_torch()
        assert torch is not None
        return [torch.from_dlpack(each) for each in arrays]

    def _filled(self, mean: float) -> list[Array]:
        """Return normally distributed arrays; their values hardly repeat, and no library draws."""
        shape = self.case.shape
        if self.case.channels_last:
            shape = (shape[0], *shape[2:], shape[1])
        block = cupy.asarray(
            np.random.default_rng(0).standard_normal((1 << 20) - 3).astype(np.float32)
        )
        arrays = []
        for _ in range(self.number):
            x = cupy.empty(shape, self.case.dtype)
            flat = x.reshape(-1)
            for turn, start in enumerate(range(0, flat.size, block.size)):
                part = flat[start : start + block.size]
                part[...] = block[: part.size] * np.float32(1 + turn / 4096) + np.float32(mean)
            arrays.append(cupy.moveaxis(x, -1, 1) if self.case.channels_last else x)
        return arrays


def cases(quick: bool) -> list[Case]:
    """Return all cases; arrays of 64 MB and more against PyTorch come first."""
    shapes = [(2000, 8)], [(4, 3, 8, 8)], [(2, 4, 8, 8)], [(16, 64)], [(1, 30)]
    table_shapes, image_shapes, cached, row_shapes, small = (
        shapes if quick else (TABLES, IMAGES, CACHED, ROWS, SMALL)
    )
    both = "float32", "float16"
    found: list[Case] = []

    def add(
        shape: tuple[int, ...], dtypes: tuple[str, ...], *jobs: Job, last: bool = False
    ) -> None:
        found.extend(Case(shape, dtype, last, (COPY, *jobs)) for dtype in dtypes)

    add(table_shapes[0], both, *tables.statistics())
    for shape in image_shapes[:2]:
        for last in (False, True):
            add(shape, both, *images.batch_norm(), last=last)
    for shape in cached:
        for last in (False, True):
            add(shape, both, *images.batch_norm(), *images.batch_norm_in_two(), last=last)
    for shape in row_shapes:
        add(shape, both, *layers.layer_norm())
    for shape in table_shapes[1:]:
        add(shape, both, *tables.statistics())
    add(table_shapes[0], ("float32",), *tables.quantiles())
    for last in (False, True):
        for shape in image_shapes[2:]:
            add(shape, both, *images.batch_norm(), last=last)
        add(image_shapes[0], ("float32", "float16"), *images.batch_norm_peers(), last=last)
    add(row_shapes[0], ("float32",), *layers.layer_norm_peers())
    for shape in small:
        add(shape, ("float32",), *tables.statistics())
    for shape in image_shapes[1:]:
        add(shape, ("float32",), *images.batch_norm_peers())
    for shape in table_shapes[1:]:
        add(shape, ("float32",), *tables.quantiles())
    add(table_shapes[0], ("float32",), *tables.scalers())
    return found
