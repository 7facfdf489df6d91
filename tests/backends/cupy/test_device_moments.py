"""What moments on a device give: the numbers of the host, in one launch each."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from cuda_host.build import needs_compiler
from cuda_host.emulated import EmulatedBackend, EmulatedDevice
from normcore_cupy.device_moments import DeviceMoments, update_running

from normcore.statistics import Moments

pytestmark = needs_compiler


class Counting(EmulatedDevice):
    """Records launches."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    def launch(self, kernel: str, *args: Any) -> None:
        self.events.append(kernel)
        super().launch(kernel, *args)


@pytest.fixture
def engine() -> EmulatedBackend:
    return EmulatedBackend(Counting())


@pytest.fixture
def x() -> np.ndarray:
    scales = [1.0, 1e200, 1e-170, 5e-324, 1e8]
    x = np.random.default_rng(0).standard_normal((50, 5, 3)) * np.array(scales)[:, None]
    x[:, 4] += 1e15
    return x


def test_mean_variance_and_deviation_are_those_of_the_host(
    engine: EmulatedBackend, x: np.ndarray
) -> None:
    moments = engine.moments(engine.adopt(x))
    expected = moments.to_host()
    assert type(expected) is Moments
    engine.device.events.clear()
    for ddof in (0, 1, 0.5):
        for got, wanted in (
            (moments.mean, expected.mean),
            (moments.var(ddof), expected.var(ddof)),
            (moments.std(ddof), expected.std(ddof)),
        ):
            np.testing.assert_array_equal(got.get(), wanted)
    # Of ddof 0 and 1 the launch that observed has them.
    assert engine.device.events == ["summarize_moments"]


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("value", [3.0, np.nan, np.inf])
def test_channels_without_a_variance(engine: EmulatedBackend, count: int, value: float) -> None:
    x = np.full((1, 2, 1), value)
    weights = engine.adopt(np.full((1, 1), count * 1.0))
    moments = engine.moments(engine.adopt(x), weights=weights)
    expected = moments.to_host()
    np.testing.assert_array_equal(moments.mean.get(), expected.mean)
    for ddof in (0, 1):
        np.testing.assert_array_equal(moments.var(ddof).get(), expected.var(ddof))
    old = np.array([[1.0, 2.0], [3.0, 4.0]])
    got = moments.running(*map(engine.adopt, old), 0.1)
    for one, other in zip(got, expected.running(*old, 0.1), strict=True):
        np.testing.assert_array_equal(one.get(), other)


def test_running_averages_take_one_launch(engine: EmulatedBackend, x: np.ndarray) -> None:
    moments = engine.moments(engine.adopt(x))
    old = np.linspace(1, 2, 10).reshape(2, 5)
    mean, var = map(engine.adopt, old)
    engine.device.events.clear()
    got = moments.running(mean, var, 0.3, 0)
    assert engine.device.events == ["update_running"]
    for one, other in zip(got, moments.to_host().running(*old, 0.3, 0), strict=True):
        np.testing.assert_array_equal(one.get(), other)
    np.testing.assert_array_equal(mean.get(), old[0])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("number", [None, 3])
def test_running_averages_of_any_dtype_in_place(
    engine: EmulatedBackend, x: np.ndarray, dtype: str, number: int | None
) -> None:
    x = x[:, [0, 4]] - np.array([0.0, 1e15])[:, None]
    moments = engine.moments(engine.adopt(x))
    old = np.array([[1.0, -2.0], [3.0, 4.0]], dtype)
    vectors = engine.adopt(old[0]), engine.adopt(old[1])
    given = None if number is None else engine.adopt(np.array([number]))
    weight = 0.25 if number is None else None
    update_running(engine._launcher, moments, vectors, vectors, weight, number=given)
    wanted = moments.to_host().running(*old.astype(float), weight or 1 / 3)
    for got, each in zip(vectors, wanted, strict=True):
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(got.get(), each.astype(dtype))


def test_they_merge_with_those_of_the_host_either_way(
    engine: EmulatedBackend, x: np.ndarray
) -> None:
    a, b = (engine.moments(engine.adopt(part)) for part in np.split(x, [20]))
    expected = a.to_host().merge(b.to_host())
    engine.device.events.clear()
    assert a.merge(b) == expected
    assert a.merge(b.to_host()) == expected
    assert a.to_host().merge(b) == expected
    assert engine.merge(Moments(a.parts), b) == expected
    assert engine.device.events == ["merge_moments"] * 3
    assert isinstance(a.merge(b), DeviceMoments)
    assert a.select(slice(1, 3)).to_host() == a.to_host().select(slice(1, 3))
    with pytest.raises(ValueError, match="channels"):
        a.merge(b.select(slice(1, 3)))
    with pytest.raises(TypeError, match="Extrema"):
        a.merge(engine.extrema(engine.adopt(x)))


def test_pickles_do_not_need_the_backend(engine: EmulatedBackend, x: np.ndarray) -> None:
    moments = engine.moments(engine.adopt(x))
    make, arguments = moments.__reduce__()
    assert make is Moments
    assert arguments[0] is moments.parts
    assert pickle.loads(pickle.dumps(make(moments.parts.get()))) == moments
