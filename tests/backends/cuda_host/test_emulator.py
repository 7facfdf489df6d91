"""The emulator itself: it does what CUDA says, and refuses what CUDA leaves undefined."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_host import toy
from cuda_host.build import SANITIZE, CompileError, build, kernel_names, needs_compiler
from cuda_host.launch import ORDERS, KernelError, Order, launch
from cuda_host.memory import Memory, StrayWrite
from cuda_host.toy import SOURCE, run

pytestmark = needs_compiler


@pytest.fixture(params=ORDERS, ids=lambda order: f"order{order.kind}-{order.seed}")
def order(request: Any) -> Order:
    return request.param


def test_barrier_and_static_shared_memory(order: Order) -> None:
    values = np.arange(192)
    expected = values.reshape(3, 64)[:, ::-1].ravel()
    np.testing.assert_array_equal(run("reverse_block", values, 192, order, grid=3), expected)


def test_barriers_and_dynamic_shared_memory(order: Order) -> None:
    values = np.arange(96)
    out = run("shift_dynamic", values, 96, order, threads=96, shared=384)
    np.testing.assert_array_equal(out, np.roll(values, -3))


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("reverse_block_unsynchronized", "reverse_block"),
     ("shift_dynamic_overtaking", "shift_dynamic")],
)  # fmt: skip
def test_a_missing_barrier_shows(wrong: str, right: str, order: Order) -> None:
    values = np.arange(64)
    expected = run(right, values, 64, order, shared=256)
    assert (run(wrong, values, 64, order, shared=256) != expected).any()


def test_shared_memory_is_poison_before_each_block(order: Order) -> None:
    values, poison = np.arange(64), np.int32(int.from_bytes([order.poison] * 4, signed=True))
    shifted, never, wide = run("unwritten_shared", values, 192, order).reshape(3, 64)
    np.testing.assert_array_equal(shifted, np.roll(values, -1))
    assert (never == poison).all()
    assert (wide == poison).all()
    # In a template, and in the second block too.
    blocks = run("unwritten_in_template", values, 128, order, grid=2).reshape(2, 64)
    assert (blocks == poison).any(axis=1).all()


def test_shuffles(order: Order) -> None:
    values = np.random.default_rng(0).integers(0, 100, 64)
    down, up, xor, fixed, ballot = run("shuffles", values, 320, order).reshape(5, 64)
    lane = np.arange(64)
    expected = np.where(lane % 32 < 29, values[np.minimum(lane + 3, 63)], values)
    np.testing.assert_array_equal(down, expected)
    np.testing.assert_array_equal(up, np.where(lane % 8 >= 3, values[lane - 3], values))
    np.testing.assert_array_equal(xor, values[lane ^ 5])
    np.testing.assert_array_equal(fixed, values[lane // 8 * 8 + 1])
    votes = np.packbits(values % 3 == 0, bitorder="little").view(np.uint32)
    np.testing.assert_array_equal(ballot.view(np.uint32), np.repeat(votes, 32))


def test_what_is_not_initialized_is_poison() -> None:
    out = run("never_initialized", np.where(np.arange(64) % 2, 5, 0), 64, ORDERS[0])
    assert (out[1::2] == 5).all()
    assert (out[::2] == np.int32(-0x1010102)).all()


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("barrier_for_some", r"deadlock in block \(0, 0, 0\): thread 0 waits at line \d+ .barrier"),
        ("barriers_apart", "__syncthreads diverges"),
        ("shuffle_for_some", "deadlock .* thread 1 waits at line .* .warp"),
        ("shuffle_from_outside", "reads from lane 20, which is not in the mask 0000ffff"),
    ],
)
def test_undefined_synchronization_is_refused(kernel: str, message: str, order: Order) -> None:
    with pytest.raises(KernelError, match=message):
        run(kernel, np.arange(64), 64, order)
    test_barrier_and_static_shared_memory(order)  # the next launch starts anew


def test_a_mask_that_names_absent_lanes_is_refused() -> None:
    with pytest.raises(KernelError, match="lane 16, which the block does not have"):
        run("shuffles", np.arange(64), 320, ORDERS[0], threads=16)


BLOCKS = 6
TOGETHER = np.append(np.arange(BLOCKS * 64), BLOCKS - 725)  # memory begins at -725


def from_the_next_block(kernel: str, order: Order, together: bool = True) -> np.ndarray:
    size = 2 * BLOCKS * 64 + 1
    out = run(kernel, TOGETHER, size, order, grid=BLOCKS, together=together)
    return out[BLOCKS * 64 : -1]


def test_blocks_that_are_launched_together_wait_for_each_other(order: Order) -> None:
    values = TOGETHER[:-1]
    expected = np.roll(values, -64) + values.reshape(BLOCKS, 64)[:, ::-1].ravel()
    np.testing.assert_array_equal(from_the_next_block("wait_for_all", order), expected)
    assert (from_the_next_block("wait_for_nobody", order) != expected).any()


def test_a_block_that_waits_for_one_that_is_not_there_is_refused(order: Order) -> None:
    asleep = r"deadlock in block \(\d, 0, 0\): .* .asleep"
    with pytest.raises(KernelError, match=asleep):
        from_the_next_block("wait_for_all", order, together=False)
    more, size = TOGETHER + 1, 2 * BLOCKS * 64 + 1
    with pytest.raises(KernelError, match=asleep):
        run("wait_for_all", more, size, order, grid=BLOCKS, together=True)
    test_blocks_that_are_launched_together_wait_for_each_other(order)


def test_blocks_that_are_launched_together_share_no_shared_memory(order: Order) -> None:
    values = np.arange(192)
    out = run("reverse_block", values, 192, order, grid=3, together=True)
    np.testing.assert_array_equal(out, values.reshape(3, 64)[:, ::-1].ravel())
    poison = np.int32(int.from_bytes([order.poison] * 4, signed=True))
    out = run("unwritten_in_template", values, 192, order, grid=3, together=True)
    assert (out.reshape(3, 64) == poison).any(axis=1).all()
    out = run("shift_dynamic", np.arange(96), 96, order, threads=96, shared=384, together=True)
    np.testing.assert_array_equal(out, np.roll(np.arange(96), -3))


def test_more_blocks_than_there_is_room_for_are_refused() -> None:
    with pytest.raises(KernelError, match="65 blocks are not on the device at once"):
        run("reverse_block", np.arange(65 * 64), 65 * 64, ORDERS[0], grid=65, together=True)


@pytest.mark.parametrize(
    ("grid", "block", "shared"), [((1,), (1025,), 0), ((0,), (32,), 0), ((1, 65536), (32,), 0),
                                  ((1,), (8, 1, 65), 0), ((1,), (32,), 50000)],
)  # fmt: skip
def test_a_launch_that_no_device_takes_is_refused(grid: Any, block: Any, shared: int) -> None:
    with pytest.raises(KernelError):
        launch(build(SOURCE), "shuffles", grid, block, [np.int64(0)] * 2, shared=shared)


def test_arguments_of_other_types_are_refused() -> None:
    pointer = np.int64(0)
    for wrong in ([pointer], [pointer, np.float64(0)], [pointer, np.int32(0)]):
        with pytest.raises(KernelError, match="takes p8 p8 but is given i8"):
            launch(build(SOURCE), "shuffles", (1,), (32,), wrong)


def test_a_source_that_does_not_compile_says_why() -> None:
    with pytest.raises(CompileError, match="no_such_name"):
        build('extern "C" __global__ void f() { no_such_name(); }')


def test_kernels_are_found() -> None:
    assert len(kernel_names(SOURCE)) == SOURCE.count("__global__")


@pytest.mark.skipif(SANITIZE, reason="AddressSanitizer ends the process at the first stray write")
@pytest.mark.parametrize("layout", ["ends", "gaps"])
def test_a_stray_write_is_seen(layout: str) -> None:
    memory, given = Memory(), np.arange(65, dtype=np.int32)
    strided = np.full(130, 7, dtype=np.int32)[::2]
    out = memory.empty(64, np.int32) if layout == "ends" else memory.copy(strided)
    pointers = [np.int64(each.__array_interface__["data"][0]) for each in (given, out)]
    memory.check()
    kernel = "writes_past_the_end" if layout == "ends" else "shuffles"
    launch(build(SOURCE), kernel, (1,), (64,), pointers)
    with pytest.raises(StrayWrite):
        memory.check()


@pytest.mark.skipif(sys.platform != "linux", reason="sanitize.sh preloads Linux libraries")
def test_the_sanitized_run_sees_a_stray_write() -> None:
    script = Path(toy.__file__).with_name("sanitize.sh")
    code = (
        f"import sys; sys.path.insert(0, {str(script.parents[1])!r})\n"
        "import numpy as np\nfrom cuda_host.launch import ORDERS\nfrom cuda_host.toy import run\n"
        "run('writes_past_the_end', np.arange(64), 64, ORDERS[0])"
    )
    done = subprocess.run(
        ["sh", str(script), sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
    assert "writes_past_the_end" in done.stderr
