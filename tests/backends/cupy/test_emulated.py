"""The CuPy backend's kernels and host logic, on an emulated device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_host.arrays import DeviceArray
from cuda_host.build import kernel_names, needs_compiler
from cuda_host.conformance import EmulatedConformance
from cuda_host.emulated import EmulatedBackend, EmulatedDevice
from cuda_host.launch import ORDERS
from normcore_cupy import plan
from normcore_cupy.device import C_TYPES, source

from normcore.affine import Affine
from normcore.array_backend.abstract import batch_scale
from normcore.array_backend.reference import ReferenceBackend
from normcore.testing.checks import check_extrema, check_moments, check_sums

pytestmark = needs_compiler

#: NC with many and few channels, NCHW with few and many channels and small images, NHWC.
SHAPES = [(1031, 40, 1), (2053, 3, 1), (6, 3, 389), (3, 70, 49), (5, 300, 1), (411, 64, 1)]

_EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


class TestEmulated(EmulatedConformance):
    pass


def draw(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """Return values of a dtype; bfloat16 is NumPy's by way of ml_dtypes."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind in "iub":
        return rng.integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)
    return (rng.standard_normal(shape) + 0.5).astype(dtype)


def normalized(
    backend: Any, x: np.ndarray, dy: np.ndarray, training: bool, **options: Any
) -> tuple[Any, ...]:
    """Return y, the moments, dx, dgamma and dbeta of a batch norm, as the backend leaves them."""
    num_channels = x.shape[1]
    rng = np.random.default_rng(1)
    gamma, beta = rng.random(num_channels) + 0.5, rng.standard_normal(num_channels)
    y, moments = backend.normalize(x, gamma, beta, 1e-5, **options)
    gradients = backend.normalize_backward(
        dy, x, moments, gamma, beta, 1e-5, training=training, **options
    )
    return y, moments, *gradients


#: Arrays that each walk takes: vectors along positions and across channels, and single values.
WALKS = [(5, 6, 40), (67, 40, 1), (67, 40, 3)]


def exercise(backend: EmulatedBackend, dtype: str, shape: tuple[int, int, int]) -> list[Any]:
    """Run every kernel of a dtype and a walk, and return the bits of all results."""
    host = draw(shape, dtype)
    num_channels = shape[1]
    x, dy = backend.adopt(host), backend.adopt(draw(shape, dtype, 1))
    weights = backend.adopt(np.random.default_rng(2).integers(0, 3, (shape[0], shape[2])) * 0.5)
    mask = backend.adopt(np.random.default_rng(3).random((shape[0], shape[2])) < 0.9)
    mean = np.linspace(-1.0, 1.0, num_channels)
    affine = Affine(center=mean, scale=mean + 2.0, gamma=0.7, beta=-mean)
    center, scale, beta = map(backend.adopt, (mean, mean + 2.0, -mean))
    on_device = Affine(center=center, scale=scale, gamma=0.7, beta=beta)
    lower, upper = np.full((4, num_channels), 0.25), np.full((4, num_channels), 40.5)
    moments = backend.moments(x)
    weighted = backend.moments(x, weights=weights, skipna=True)
    brackets = backend.brackets(x, lower, upper, weights=weights)
    results = [
        moments.parts, weighted.parts, backend.merge(moments, weighted).parts,
        *backend.extrema(x).to_host().to_state().values(),
        brackets.below, brackets.inside_count, *(each for rank in brackets.inside for each in rank),
        *(backend.rescale(x, each, clip=(-1.0, 3.0), mask=mask) for each in (affine, on_device)),
        *backend.backward_reduce(dy, x, mean, relu_mask=affine, mask=mask),
        backend.backward_elemt(dy, x, mean, mean, mean, mean, relu_mask=affine, mask=mask),
    ]  # fmt: skip
    y, batch, *gradients = normalized(backend, x, dy, True, activation="relu", mask=mask)
    results += [y, batch.parts, *gradients]
    return [np.asarray(backend.device.to_host(each)).tobytes() for each in results]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int64", "bool"])
def test_every_kernel_gives_the_same_bits_in_every_order_of_threads(
    monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    devices = [EmulatedDevice(orders=(order,)) for order in ORDERS]
    backends = [EmulatedBackend(device) for device in devices]
    for offsets, shapes in ((plan._OFFSETS, WALKS), (0, [(67, 40, 3)])):
        monkeypatch.setattr(plan, "_OFFSETS", offsets)
        plan._planned.cache_clear()
        for shape in shapes:
            first, *others = [exercise(backend, dtype, shape) for backend in backends]
            for order, other in zip(ORDERS[1:], others, strict=True):
                assert first == other, f"{order} gives other bits"
    plan._planned.cache_clear()
    launched = {kernel for kernel, _ in devices[0].launched}
    elsewhere = {name for name in kernel_names(source()) if "row" in name or "normalize" in name}
    elsewhere |= {"summarize_moments", "update_running", "count_digits", "choose_digits"}
    assert launched == set(kernel_names(source())) - elsewhere


#: Shapes, and what of an array is taken: whole vectors, tails, odd rows, and addresses between.
PLACES = [
    ((3, 4, 1028), ()), ((2, 3, 4), ()), ((5, 2, 12), ()), ((3, 5, 1029), (..., slice(1, None))),
    ((1029, 12, 1), ()), ((37, 70, 1), (slice(None), slice(0, 64))), ((1027, 13, 1), ()),
    ((515, 9, 1), (slice(None), slice(1, None))), ((4, 8, 6), (slice(None, None, -1),)),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "part"), PLACES)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int8"])
def test_elements_wherever_they_lie(dtype: str, shape: Any, part: Any) -> None:
    backend, reference = EmulatedBackend(), ReferenceBackend()
    whole, gradient = draw(shape, dtype), draw(shape, dtype, 1)
    x, dy = backend.adopt(whole)[part], backend.adopt(gradient)[part]
    host, dhost = whole[part].astype(np.float64), gradient[part].astype(np.float64)
    vectors = np.random.default_rng(2).standard_normal((4, host.shape[1]))
    affine = Affine(center=vectors[0], scale=vectors[1] + 3.0, gamma=vectors[2], beta=vectors[3])
    target = np.dtype(dtype if np.dtype(dtype).kind not in "iub" else np.float64)
    out = backend.device.zeros(shape, target)[part]
    for limits in ({}, {"clip": (-0.5, 0.75)}, {"activation": "relu"}):
        y = backend.rescale(x, affine, out=out, **limits)
        expected = reference.rescale(host, affine, **limits)
        assert backend.device.to_host(y).tobytes() == narrowed(expected, target).tobytes()
    dx = backend.backward_elemt(dy, x, *vectors, relu_mask=affine, out=out)
    expected = reference.backward_elemt(dhost, host, *vectors, relu_mask=affine)
    assert backend.device.to_host(dx).tobytes() == narrowed(expected, target).tobytes()
    check_extrema(backend.extrema(x).to_host(), reference.extrema(host))
    check_moments(backend.moments(x).to_host(), host)
    sums = backend.backward_reduce(dy, x, vectors[0], relu_mask=affine)
    expected = reference.backward_reduce(dhost, host, vectors[0], relu_mask=affine)
    got = tuple(backend.device.to_host(each) for each in sums)
    check_sums(got, expected, dhost, host, vectors[0])


def narrowed(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return float64 values rounded once to a dtype; ml_dtypes rounds twice, through float32."""
    if dtype.name == "bfloat16":
        mantissa, exponent = np.frexp(values)
        values = np.ldexp(np.rint(mantissa * 256.0) / 256.0, exponent)
    return values.astype(dtype)


@pytest.mark.parametrize("shape", [(40, 8, 1), (2, 3, 64), (7, 3, 5)])
@pytest.mark.parametrize("scale", [1e-250, 3.0, 1e250, np.inf, 0.0, np.nan])
def test_any_scale_divides_as_ieee(shape: Any, scale: float) -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(-(1 << 23), 1 << 23, shape).astype(np.float32) * np.float32(2.0**-10)
    x.reshape(-1)[:6] = 0.0, -0.0, np.inf, -np.inf, np.nan, 3e38
    backend, reference = EmulatedBackend(), ReferenceBackend()
    for center in (0.0, 1 / 3, 1e-300):
        for gamma, beta in ((1.0, 0.0), (-1.0, -0.0)):
            affine = Affine(center=center, scale=scale, gamma=gamma, beta=beta)
            with np.errstate(all="ignore"):
                expected = reference.rescale(x.astype(np.float64), affine).astype(np.float32)
            got = backend.device.to_host(backend.rescale(backend.adopt(x), affine))
            np.testing.assert_array_equal(got, expected)
            numbers = ~np.isnan(expected)
            np.testing.assert_array_equal(np.signbit(got)[numbers], np.signbit(expected)[numbers])


@pytest.mark.parametrize("shape", [(2053, 3, 1), (3, 33, 49)])
@pytest.mark.parametrize("dtype", C_TYPES)
def test_moments_and_rescale_of_every_dtype(dtype: str, shape: tuple[int, int, int]) -> None:
    backend, x = EmulatedBackend(), draw(shape, dtype)
    plane = np.random.default_rng(4).integers(0, 3, (shape[0], shape[2])) * 1.0
    for weights in (None, plane):
        native = None if weights is None else backend.adopt(weights)
        moments = backend.moments(backend.adopt(x), weights=native)
        check_moments(moments.to_host(), x.astype(np.float64), weights)
    affine = Affine(center=np.arange(shape[1]) - 3.5, scale=3.0, gamma=1.7, beta=0.1)
    y = backend.device.to_host(backend.rescale(backend.adopt(x), affine))
    expected = ReferenceBackend().rescale(x.astype(np.float64), affine)
    floating = np.dtype(dtype).kind not in "iub"
    assert y.dtype == (x.dtype if floating else np.float64)
    expected = narrowed(expected, y.dtype)
    np.testing.assert_array_equal(y.astype(np.float64), expected.astype(np.float64))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("options", [{}, {"activation": "relu", "mask": True}], ids=["", "relu"])
def test_batch_norm_in_one_go(
    shape: tuple[int, int, int], dtype: str, training: bool, options: dict[str, Any]
) -> None:
    backend, reference = EmulatedBackend(), ReferenceBackend()
    x, dy = draw(shape, dtype), draw(shape, dtype, 1)
    mask = np.random.default_rng(5).random((shape[0], shape[2])) < 0.8
    theirs, mine = dict(options), dict(options)
    if "mask" in options:
        theirs["mask"], mine["mask"] = mask, backend.adopt(mask)
    waits = DeviceArray.waits
    y, moments, *gradients = normalized(
        backend, backend.adopt(x), backend.adopt(dy), training, **mine
    )
    assert DeviceArray.waits == waits, "batch norm waits for the device"
    wide, wide_dy = x.astype(np.float64), dy.astype(np.float64)
    expected = normalized(reference, wide, wide_dy, training, **theirs)
    check_moments(moments.to_host(), wide, mask * 1.0 if "mask" in options else None)
    eps = _EPS[dtype]
    least = 2.0**-24 if dtype == "float16" else 0.0  # its subnormals are within reach
    for name, got, value, unit in zip(
        ("y", "dx", "dgamma", "dbeta"), (y, *gradients), (expected[0], *expected[2:]),
        (eps, eps, 2.0**-52, 2.0**-52), strict=True,
    ):  # fmt: skip
        got = backend.device.to_host(got)
        largest = np.abs(value).max() if name in ("y", "dx") else np.abs(wide_dy).sum()
        np.testing.assert_allclose(
            got.astype(np.float64), value, rtol=unit, atol=16 * 2.0**-52 * largest + least,
            err_msg=name,
        )  # fmt: skip


def test_a_channel_that_a_mask_empties_is_nan() -> None:
    backend = EmulatedBackend()
    x = backend.adopt(draw((9, 2, 1), "float32"))
    mask = backend.adopt(np.zeros((9, 1), dtype=bool))
    y, moments = backend.normalize(x, 1.0, 0.0, 1e-5, mask=mask)
    assert np.isnan(moments.to_host().mean).all()
    assert not backend.device.to_host(y).any()


def test_elementwise_kernels_and_moments_do_not_wait() -> None:
    backend = EmulatedBackend()
    x = backend.adopt(draw((33, 5, 7), "float32"))
    before = DeviceArray.waits
    moments = backend.moments(x)
    backend.merge(moments, moments)
    backend.extrema(x)
    backend.rescale(x, Affine(center=moments.mean, scale=batch_scale(moments, 1e-5)))
    assert DeviceArray.waits == before
