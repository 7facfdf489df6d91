"""The CuPy backend's host logic, on the emulated device."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from cuda_host.build import needs_compiler
from cuda_host.emulated import EmulatedBackend, EmulatedDevice
from normcore_cupy import counting, host
from normcore_cupy.plan import (
    REDUCTION,
    plan,
)

from normcore import Affine, get_backend
from normcore.array_backend.abstract import Backend
from normcore.array_backend.reference import ReferenceBackend
from normcore.statistics import Extrema
from normcore.testing.checks import check_extrema, check_moments, check_sums
from normcore.testing.strategies import LAYOUTS, arrange


class Counting(EmulatedDevice):
    """Records launches, whatever the walk, and copies to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    def launch(self, kernel: str, *args: Any) -> None:
        self.events.append(re.sub("_(single|along|across)$", "", kernel))
        super().launch(kernel, *args)

    def to_host(self, array: Any) -> np.ndarray:
        self.events.append("to_host")
        return super().to_host(array)


@pytest.fixture
def engine() -> EmulatedBackend:
    return EmulatedBackend(Counting())


def data(shape: tuple[int, ...] = (40, 5, 7), dtype: Any = np.float32) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal(shape) * 3 + 1).astype(dtype)


# -- what is launched ------------------------------------------------------------------------


@needs_compiler
def test_forward_and_backward_never_wait(engine: EmulatedBackend) -> None:
    x, dy = (engine.adopt(each) for each in (data(), data()[::-1]))
    gamma = engine.adopt(np.linspace(1, 2, 5))
    events = engine.device.events
    _, moments = engine.normalize(x, gamma, 0.5, 1e-5, activation="relu")
    assert events == ["moments", "rescale"]
    events.clear()
    engine.normalize_backward(dy, x, moments, gamma, 0.5, 1e-5, activation="relu")
    assert events == ["backward_reduce", "backward_elemt"]
    events.clear()
    engine.rescale(x, Affine(center=moments.mean, scale=gamma, gamma=2.0, beta=np.ones(5)))
    engine.moments(x)
    engine.extrema(x)
    assert "to_host" not in events


@needs_compiler
def test_merging_is_one_launch_and_chan_s_law(engine: EmulatedBackend) -> None:
    x = data((100, 5, 7), np.float64)
    a, b = (engine.moments(engine.adopt(each)) for each in np.split(x, [31]))
    engine.device.events.clear()
    merged = engine.merge(a, b)
    assert engine.device.events == ["merge_moments"]
    expected = a.to_host().merge(b.to_host())
    np.testing.assert_array_equal(merged.to_host().parts, expected.parts)
    with pytest.raises(ValueError, match="channels"):
        engine.merge(a, engine.moments(engine.adopt(x[:, :3])))
    with pytest.raises(TypeError, match="Extrema"):
        engine.merge(a, engine.extrema(engine.adopt(x)))
    assert isinstance(engine.merge(*[engine.extrema(engine.adopt(x))] * 2), Extrema)


@needs_compiler
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("masked", [False, True])
def test_one_go_has_the_bits_of_the_steps(
    engine: EmulatedBackend, activation: Any, masked: bool
) -> None:
    x, dy = engine.adopt(data()), engine.adopt(data()[::-1])
    mask = engine.adopt(data((40, 7)) > 0) if masked else None
    gamma, beta = engine.adopt(np.linspace(1, 2, 5)), engine.adopt(np.linspace(-1, 1, 5))
    options = {"activation": activation, "mask": mask}
    y, moments = engine.normalize(x, gamma, beta, 1e-3, **options)
    expected, _ = Backend.normalize(engine, x, gamma, beta, 1e-3, **options)
    np.testing.assert_array_equal(y.get(), expected.get())
    for training in (True, False):
        arguments = dy, x, moments, gamma, beta, 1e-3
        got = engine.normalize_backward(*arguments, training=training, **options)
        steps = Backend.normalize_backward(engine, *arguments, training=training, **options)
        for one, other in zip(got, steps, strict=True):
            np.testing.assert_array_equal(one.get(), other.get())


# -- results ---------------------------------------------------------------------------------


def _late(size: int) -> np.ndarray:
    return np.where(np.arange(size) < 0.7 * size, 0.1, 1234.567)


HARD = {
    "a poor pivot": _late,
    "a trend": lambda size: np.arange(size) * 0.1 + 1e9,
    "an outlier first": lambda size: np.where(np.arange(size) == 0, 1e12, np.sin(np.arange(size))),
    "huge beside tiny": lambda size: (
        np.where(np.arange(size) % 3 == 0, 1e250, 1e-200) * np.cos(np.arange(size))
    ),
    "ranges of other exponents": lambda size: (
        np.sin(np.arange(size)) * np.where(np.arange(size) < size // 2, 1e-180, 1.0)
    ),
    "either side of the scale's threshold": lambda size: (
        np.sin(np.arange(size)) * np.where(np.arange(size) < size // 2, 2.0**401, 2.0**399)
    ),
    "a mean that overflows": lambda size: 1.5e308 * (1.0 + 1e-9 * np.sin(np.arange(size))),
    "near the largest": lambda size: np.cos(np.arange(size)) * 1.7e308,
    "subnormal": lambda size: (np.arange(size) % 17) * 5e-324,
    "cancelling": lambda size: np.where(np.arange(size) % 2, 1.0, -1.0) * (1e15 + 0.5),
}


@needs_compiler
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("columns", [False, True])
def test_moments_of_hard_channels(engine: EmulatedBackend, weighted: bool, columns: bool) -> None:
    size = 6000
    table = np.stack([make(size) for make in HARD.values()])
    x = table[None] if columns else np.ascontiguousarray(table.T)[:, :, None]
    plane = None
    if weighted:
        plane = np.random.default_rng(1).integers(0, 3, (x.shape[0], x.shape[2])) * 1.0
    weights = None if plane is None else engine.adopt(plane)
    check_moments(engine.moments(engine.adopt(x), weights=weights).to_host(), x, plane)


@needs_compiler
@pytest.mark.parametrize("weighted", [False, True])
def test_moments_where_the_first_values_are_far_from_the_mean(
    engine: EmulatedBackend, monkeypatch: pytest.MonkeyPatch, weighted: bool
) -> None:
    monkeypatch.setattr(host, "REDUCTION", REDUCTION._replace(blocks=1))  # long ranges
    rng = np.random.default_rng(3)
    first, rest = rng.standard_normal((2, 32)) * 1e3
    x = np.where(np.arange(20000)[:, None] < 600, first, rest)[:, :, None]
    plane = np.ones((20000, 1)) if weighted else None
    weights = None if plane is None else engine.adopt(plane)
    check_moments(engine.moments(engine.adopt(x), weights=weights).to_host(), x, plane)


@needs_compiler
@pytest.mark.parametrize(
    ("shape", "order"), [((1, 2, 30011), "C"), ((9001, 40, 1), "C"), ((30000, 2, 1), "F")]
)
def test_groups_of_ranges_merge(
    engine: EmulatedBackend, monkeypatch: pytest.MonkeyPatch, shape: Any, order: str
) -> None:
    many = {"blocks": 4096, "positions": 1}
    for name in ("REDUCTION", "EXTREMA"):
        monkeypatch.setattr(host, name, getattr(host, name)._replace(**many))
    rng = np.random.default_rng(5)
    x = np.array(rng.standard_normal(shape) + 1e7, np.float32, order=order)
    dy = np.array(rng.standard_normal(shape), np.float32, order=order)
    assert plan(x, host.REDUCTION).groups > 1
    native, gradient = engine.adopt(x), engine.adopt(dy)
    moments = engine.moments(native)
    on_host, launched = moments.to_host(), len(engine.device.events)
    np.testing.assert_array_equal(moments.mean.get(), on_host.mean)
    for ddof in (0, 1):
        np.testing.assert_array_equal(moments.var(ddof).get(), on_host.var(ddof))
        np.testing.assert_array_equal(moments.std(ddof).get(), on_host.std(ddof))
    assert len(engine.device.events) == launched
    check_moments(moments.to_host(), x)
    extrema, reference = engine.extrema(native), ReferenceBackend()
    check_extrema(extrema.to_host(), reference.extrema(x))
    mean = x.mean(axis=(0, 2), dtype=float)
    sums = [each.get() for each in engine.backward_reduce(gradient, native, mean)]
    exact = reference.backward_reduce(dy, x, mean)
    check_sums(tuple(sums), exact, dy, x, mean)


@needs_compiler
def test_a_channel_does_not_depend_on_its_neighbours(engine: EmulatedBackend) -> None:
    x = np.stack([make(2000) for make in HARD.values()], axis=1)[:, :, None]
    calm = x.copy()
    calm[:, 1:] = data((2000, len(HARD) - 1, 1))
    parts = [engine.moments(engine.adopt(each)).to_host().parts[:, 0] for each in (x, calm)]
    np.testing.assert_array_equal(*parts)


@needs_compiler
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int16", "bool"])
def test_rescale_has_the_bits_of_the_cpu(engine: EmulatedBackend, dtype: str, layout: str) -> None:
    x = arrange(data((33, 5, 6)).astype(dtype), layout)
    affine = Affine(center=np.linspace(-1, 1, 5), scale=np.full(5, 0.7), gamma=1.3, beta=0.1)
    expected = get_backend("cpu").rescale(x, affine, clip=(-1.0, 1.5), activation="relu")
    got = engine.rescale(engine.adopt(x), affine, clip=(-1.0, 1.5), activation="relu")
    assert got.dtype == expected.dtype
    assert got.get().tobytes() == expected.tobytes()


@needs_compiler
def test_relu_of_zero_has_the_sign_of_the_cpu(engine: EmulatedBackend) -> None:
    x, affine = np.full((2, 3, 1), -0.0), Affine(beta=-0.0)
    for activation in (None, "relu"):
        expected = get_backend("cpu").rescale(x, affine, activation=activation)
        got = engine.rescale(engine.adopt(x), affine, activation=activation)
        assert got.get().tobytes() == expected.tobytes()


@needs_compiler
def test_results_keep_the_memory_order_of_the_input(engine: EmulatedBackend) -> None:
    for layout in ("C", "F", "transposed"):
        x = engine.adopt(arrange(data(), layout))
        assert engine.rescale(x, Affine()).strides == x.strides


@needs_compiler
def test_planes_of_any_dtype_and_stride(engine: EmulatedBackend) -> None:
    x = data((40, 5, 7), np.float64)
    numbers = np.arange(40) % 3
    whole = np.repeat(numbers[:, None], 7, axis=1)
    expected = engine.moments(engine.adopt(x), weights=engine.adopt(whole * 1.0)).to_host()
    for dtype in (np.float32, np.int8, np.uint16):
        for plane in (
            whole.astype(dtype),
            np.broadcast_to(numbers.astype(dtype)[:, None], (40, 7)),
        ):
            got = engine.moments(engine.adopt(x), weights=engine.adopt(plane)).to_host()
            np.testing.assert_array_equal(got.parts, expected.parts)
            y = engine.rescale(engine.adopt(x), Affine(), mask=engine.adopt(plane)).get()
            np.testing.assert_array_equal(y, np.where(whole[:, None, :] != 0, x, 0.0))


@needs_compiler
def test_gradients_of_another_dtype(engine: EmulatedBackend) -> None:
    x, dy = data(), data(dtype=np.float16)[::-1]
    vectors = np.random.default_rng(2).standard_normal((4, 5))
    got = engine.backward_elemt(engine.adopt(dy), engine.adopt(x), *vectors)
    mean, a, b, d = vectors[:, :, None]
    expected = a * dy.astype(float) - (b + d * (x.astype(float) - mean))
    np.testing.assert_array_equal(got.get(), expected.astype(np.float32))


@needs_compiler
def test_more_ranks_than_registers_hold(engine: EmulatedBackend) -> None:
    x = data((500, 4, 3), np.float64)
    q = np.linspace(0, 1, 2 * counting.RANKS + 1)
    ends = np.quantile(x, q, axis=(0, 2))
    brackets = engine.brackets(engine.adopt(x), ends[:-1], ends[1:], skipna=True)
    for rank in range(q.size - 1):
        for channel in range(4):
            column = x[:, channel].reshape(-1)
            inside = column[(column > ends[rank, channel]) & (column < ends[rank + 1, channel])]
            kept = np.sort(brackets.inside[rank][channel])
            np.testing.assert_array_equal(kept, np.sort(inside))
            assert brackets.inside_count[rank, channel] == inside.size


# -- bad arguments ---------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda e, x, y: e.rescale(x, Affine(scale=np.ones(4)), out=y), ValueError, "scale has"),
        (lambda e, x, y: e.rescale(x, Affine(), activation="tanh", out=y), ValueError, "tanh"),
        (lambda e, x, y: e.rescale(x, Affine(), out=y[:3]), ValueError, "out has shape"),
        (
            lambda e, x, y: e.rescale(x, Affine(), out=e.device.zeros(x.shape, np.int32)),
            TypeError,
            "out has dtype int32",
        ),
        (
            lambda e, x, y: e.rescale(x, Affine(), out=y, mask=e.device.zeros((3, 7), np.bool_)),
            ValueError,
            r"shape \(3, 7\), expected \(40, 7\)",
        ),
        (
            lambda e, x, y: e.backward_elemt(x[:3], x, 0.0, 1.0, 0.0, 0.0, out=y),
            ValueError,
            "dy has shape",
        ),
        (lambda e, x, y: e.backward_reduce(x[:3], x, 0.0), ValueError, "dy has shape"),
        (lambda e, x, y: e.moments(e.device.zeros((2, 2, 1), "c16")), TypeError, "complex128"),
        (
            lambda e, x, y: e.brackets(x, np.zeros((1, 4)), np.zeros((1, 4))),
            ValueError,
            "expected",
        ),
    ],
)
def test_bad_arguments_leave_the_result_alone(
    engine: EmulatedBackend, call: Any, error: Any, message: str
) -> None:
    x, out = engine.adopt(data()), engine.adopt(np.full((40, 5, 7), -7.0, np.float32))
    with pytest.raises(error, match=message):
        call(engine, x, out)
    assert (out.get() == -7.0).all()
