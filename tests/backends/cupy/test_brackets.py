"""Brackets on the emulated device compare in the dtype of the data as float64 compares."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_host.build import needs_compiler
from cuda_host.emulated import EmulatedBackend
from normcore_cupy.device import C_TYPES

from normcore.array_backend.reference import ReferenceBackend
from normcore.testing.checks import check_brackets

pytestmark = needs_compiler

#: Values of the data, neighbours of them that float32 or float16 cannot hold, and what is beyond.
_ENDS = [
    -np.inf, -1e300, -65504.0, -1.0 - 2.0**-40, -1.0, -1.0 + 2.0**-40, -1e-46, -0.0, 1e-46, 1.0 / 3,
    1.0, 1.0 + 2.0**-52, 2.0, 3.0 - 2.0**-30, 65504.5, 1e39, 1e300, np.inf,
]  # fmt: skip


def draw(dtype: str, num_positions: int, num_channels: int) -> np.ndarray:
    """Return few values again and again, among them the largest, the least, infinities and NaN."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(8)
    shape = num_positions, num_channels, 1
    if np.dtype(dtype).kind in "iub":
        low = 0 if np.dtype(dtype).kind in "ub" else -3
        return rng.integers(low, 2 if dtype == "bool" else 4, shape).astype(dtype)
    least = {"float64": 5e-324, "float32": 1e-45, "float16": 6e-8, "bfloat16": 1e-40}[dtype]
    values = [-2.0, -1.0, -least, -0.0, 0.0, least, 1.0 / 3, 1.0, 1.5, 3.0, 6e4]
    return rng.choice([*values, np.inf, -np.inf, np.nan], shape).astype(dtype)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", C_TYPES)
def test_every_end_counts_as_in_float64(dtype: str, weighted: bool) -> None:
    pairs = [(low, high) for low in _ENDS for high in _ENDS if low <= high]
    lower, upper = (np.array(each).reshape(-1, 3) for each in zip(*pairs, strict=True))
    x = draw(dtype, 700, lower.shape[1])
    weights = None
    if weighted:
        weights = np.random.default_rng(9).integers(0, 3, (len(x), 1)) * 1.0
    backend = EmulatedBackend()
    for skipna in (False, True):
        got = backend.brackets(
            backend.adopt(x), lower, upper, skipna=skipna,
            weights=None if weights is None else backend.adopt(weights),
        )  # fmt: skip
        expected = ReferenceBackend().brackets(
            x.astype(np.float64), lower, upper, weights=weights, skipna=skipna
        )
        check_brackets(got, expected)


@pytest.mark.parametrize("dtype", C_TYPES)
def test_values_are_kept_as_they_are(dtype: str) -> None:
    """On the device in their own dtype; on the host as the CPU's kernels have them."""
    backend, x = EmulatedBackend(), draw(dtype, 50, 2)
    ends = np.full((1, 2), -np.inf), np.full((1, 2), np.inf)
    steps = backend.bracket_steps(backend.adopt(x), *ends)
    counted = next(steps)
    (kept,) = steps.send(tuple(map(backend.device.to_host, counted)))
    assert kept.dtype == x.dtype
    with pytest.raises(StopIteration) as end:
        steps.send((backend.device.to_host(kept),))
    of_host = np.float32 if dtype == "float32" else np.float64
    assert {each.dtype for row in end.value.value.inside for each in row} == {np.dtype(of_host)}
