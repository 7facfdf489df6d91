"""Batch norm in one launch: the bits of two, however many blocks are on the device together."""

from __future__ import annotations

import ml_dtypes  # gives NumPy bfloat16
import numpy as np
import pytest
from cuda_host import build
from cuda_host.arrays import unwrap
from cuda_host.launch import ORDERS, KernelError

import normcore as nc

pytestmark = build.needs_compiler
F = nc.functional
assert ml_dtypes

#: Shapes, their axis of channels, and the walk: tiles of one range and of several, one of them or
#: some, groups of ranges; dividing a channel's positions, or not.
SHAPES = {
    (4, 6, 12): (1, "along"), (2, 3, 20004): (1, "along"), (3, 2, 15001): (1, "single"),
    (3000, 40): (-1, "across"), (4400, 66): (-1, "across"), (1100, 39): (-1, "single"),
}  # fmt: skip
AT_ONCE = ["normalize", "normalize_backward"]
IN_TWO = ["moments", "rescale", "backward_reduce", "backward_elemt"]
RNG = np.random.default_rng(0)


def drawn(cupy, shape, dtype, number=2):
    values = RNG.normal(size=(number, *shape)) * 3.0 + 5.0
    return [cupy.asarray(each.astype(np.dtype(dtype))) for each in values]


def both(backend, x, dy, gamma, axis=1, **out):
    """Return the bytes of what a forward and a backward pass give."""
    given = {"axis": axis, "backend": backend, **out}
    y, moments = F.batch_norm(x, gamma, gamma, **given)
    parts = y, moments.parts, moments.mean, moments.var(1)
    before = [np.array(unwrap(each)).tobytes() for each in parts]  # `out` may be given to both
    gradients = F.batch_norm_backward(dy, x, moments, gamma, **given)
    return before + [np.array(unwrap(each)).tobytes() for each in gradients]


def walked(cupy):
    """Return the kernels that were launched, without their walks, and the walks."""
    names = [each.rpartition("_") for each in cupy.launched]
    cupy.launched.clear()
    return [name for name, _, _ in names], {walk for _, _, walk in names}


@pytest.fixture
def expected(cupy, backend):
    """Return what two launches give, each way, by the same kernels as ever."""

    def compute(*given, **options):
        cupy.emulated.num_cache_bytes, held = 0, cupy.emulated.num_cache_bytes
        backend.whole_calls.caller.known.clear()
        cupy.launched.clear()
        results = both(backend, *given, **options)
        assert walked(cupy)[0] == IN_TWO
        cupy.emulated.num_cache_bytes = held
        backend.whole_calls.caller.known.clear()
        return results

    return compute


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_the_bits_are_those_of_two_launches(backend, cupy, expected, shape, dtype):
    axis, walk = SHAPES[shape]
    x, dy = drawn(cupy, shape, dtype)
    gamma = drawn(cupy, (shape[axis],), "float32")[0]
    results = expected(x, dy, gamma, axis)
    for resident, _ in zip((5, 1, 3, 16), ORDERS, strict=True):
        cupy.emulated.resident = resident
        backend.whole_calls.caller.known.clear()
        assert both(backend, x, dy, gamma, axis) == results
        assert walked(cupy) == (AT_ONCE, {walk})


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_values_that_take_more_than_one_look(backend, cupy, expected, dtype):
    """Those far from their pivot, and squares that leave float64."""
    x, dy = drawn(cupy, (2500, 24), "float64")
    values = unwrap(x)
    values[:7] *= 1e9
    if dtype == "float64":
        values[:, ::3] *= 1e200
        values[1, 5] = np.nan
    x, dy = (cupy.asarray(np.array(unwrap(each)).astype(dtype)) for each in (x, dy))
    results = expected(x, dy, None)
    for _ in ORDERS:
        assert both(backend, x, dy, None) == results


def test_a_map_out_of_the_ordinary(backend, cupy, expected):
    x = cupy.asarray(RNG.integers(-3, 4, (2500, 24)).astype(np.float32) * np.float32(1e-38))
    unwrap(x)[:, 3] = 7.0
    assert both(backend, x, x, None) == expected(x, x, None)


def test_results_may_take_the_place_of_inputs(backend, cupy, expected):
    x, dy = drawn(cupy, (3000, 40), "float32")
    results = expected(x, dy, None)
    for _ in ORDERS:
        there, upstream = x.copy(), dy.copy()
        y, moments = F.batch_norm(there, out=there, backend=backend)
        assert np.array(unwrap(y)).tobytes() == results[0]
        for in_place_of_dy in (True, False):
            upstream, again = dy.copy(), x.copy()
            target = upstream if in_place_of_dy else again
            dx, *_ = F.batch_norm_backward(upstream, again, moments, out=target, backend=backend)
            assert dx is target
            assert np.array(unwrap(dx)).tobytes() == results[4]
    assert set(walked(cupy)[0]) == set(AT_ONCE)


def test_what_the_cache_does_not_hold_takes_two_launches(backend, cupy):
    """Half of it is for what is read twice, by all blocks that are there."""
    emulated = cupy.emulated
    for shape, bytes_of_all in (((3000, 40), 480_000), ((2, 64, 40), 20_480)):
        x, dy = drawn(cupy, shape, "float32")
        read = bytes_of_all if shape[0] > 2 else bytes_of_all * emulated.resident // 64
        for size, forward, backward in (
            (2 * read - 2, IN_TWO[:2], IN_TWO[2:]), (2 * read, AT_ONCE[:1], IN_TWO[2:]),
            (4 * read, AT_ONCE[:1], AT_ONCE[1:]),
        ):  # fmt: skip
            backend.whole_calls.caller.known.clear()
            emulated.num_cache_bytes = size
            both(backend, x, dy, None)
            assert walked(cupy)[0] == forward + backward


@pytest.mark.parametrize("shape", [(3000, 40), (2, 64, 40)])
def test_a_device_that_keeps_no_blocks_together_takes_two_launches(backend, cupy, shape):
    x, dy = drawn(cupy, shape, "float32")
    cupy.emulated.resident = 0
    both(backend, x, dy, None)
    assert walked(cupy)[0] == IN_TWO


def test_only_blocks_that_wait_are_launched_together(backend, cupy):
    for shape, together in (((3000, 40), True), ((2, 64, 40), False)):
        x, dy = drawn(cupy, shape, "float32")
        cupy.together.clear()
        both(backend, x, dy, None)
        assert cupy.together == [together] * 2


def test_results_that_lie_elsewhere_take_two_launches(backend, cupy, expected):
    """An address between vectors: the moments stay those of the input's walk."""
    x, dy = drawn(cupy, (3000, 40), "float32")
    out = cupy.empty(120_001, np.float32)[1:].reshape(3000, 40)
    results = both(backend, x, dy, None, out=out)
    names, walks = walked(cupy)
    assert (names, walks) == (IN_TWO, {"across", "single"})
    assert results == expected(x, dy, None)


def test_blocks_that_are_not_there_are_refused(cupy):
    with pytest.raises(KernelError, match="of 6 blocks 5 are resident"):
        cupy.emulated.run("", (), "any", (2, 3, 1), (32, 1, 1), (), True)
