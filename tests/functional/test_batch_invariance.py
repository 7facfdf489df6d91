"""A sample's result has the same bits whatever stands beside it, as docs/batch-invariance.md says.

Each sample is normalized alone, on one thread of the baseline build. Batches of several sizes, in
which it has several places and some neighbours are not finite, must give the same, on any number
of threads, with any instruction set.
"""

from __future__ import annotations

import numpy as np
import pytest
from normcore_cpu.backend import CpuBackend
from normcore_cpu.instruction_sets import available

import normcore as nc
from normcore import functional as F
from normcore.threads import use_num_threads

DTYPES = ("float16", "float32", "float64", "int16", "int64")
EPS = 1e-3


ENGINES = [CpuBackend(name) for name in available()]


def of_rows(function, num_axes=1):
    def normalize(x, dy, gamma, beta, engine):
        options = {"num_axes": num_axes, "eps": EPS, "backend": engine}
        vectors = (gamma, beta)[: 1 if function == "rms_norm" else 2]
        y, moments = getattr(F, function)(x, *vectors, **options)
        dx = getattr(F, f"{function}_backward")(dy, x, moments, gamma, **options)[0]
        return y, dx

    return normalize


def of_groups(function, *groups):
    def normalize(x, dy, gamma, beta, engine):
        options = {"eps": EPS, "backend": engine}
        y, moments = getattr(F, function)(x, *groups, gamma, beta, **options)
        backward = getattr(F, f"{function}_backward")
        return y, backward(dy, x, moments, *groups, gamma, **options)[0]

    return normalize


def inference(x, dy, gamma, beta, engine):
    mean, var = np.linspace(-1.0, 1.0, x.shape[1]), np.linspace(0.5, 2.0, x.shape[1])
    options = {"eps": EPS, "backend": engine}
    y = F.batch_norm_inference(x, mean, var, gamma, beta, **options)
    moments = nc.Moments.of(1, mean, var)
    dx = F.batch_norm_backward(dy, x, moments, gamma, beta, training=False, **options)[0]
    return y, dx


def samples(number, shape, dtype, seed=0):
    """Return samples about means of their own, some of them extreme or not finite, and dy."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(number, *shape)) * 3.0
    x += rng.normal(size=(number, *(1 for _ in shape))) * 50.0
    dtype = np.dtype(dtype)
    dy = rng.normal(size=x.shape)
    if dtype.kind != "f":
        return (x * 10.0).astype(dtype), dy
    x, dy = x.astype(dtype), dy.astype(dtype)
    for place, value in ((2, np.nan), (3, np.inf), (5, 0.0), (8, 6e4)):
        if number > 10:
            x[place] = value
    if number > 10 and dtype == np.float64:
        x[9] *= 1e200
    return x, dy


def arranged(array, order):
    """Return an array whose samples lie in another order, or apart."""
    if order == "C":
        return np.ascontiguousarray(array)
    if order == "channels last":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)
    spaced = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    spaced[..., ::2] = array
    return spaced[..., ::2]


def bits(results, place):
    return [np.ascontiguousarray(each[place]).tobytes() for each in results]


@pytest.fixture(autouse=True)
def quiet():
    with np.errstate(all="ignore"):
        yield


def check(normalize, shape, dtype, order, vectors, batches, places):
    """Assert that samples have the bits that they have alone."""
    number = max(batches)
    x, dy = samples(number, shape, dtype)
    gamma, beta = np.random.default_rng(1).normal(size=(2, *vectors))
    with use_num_threads(1):
        alone = {
            place: bits(
                normalize(
                    *(arranged(each[place : place + 1], order) for each in (x, dy)), gamma, beta,
                    ENGINES[0],
                ), 0,
            )
            for place in places
        }  # fmt: skip
    for turn, size in enumerate(batches):
        engine, threads = ENGINES[turn % len(ENGINES)], 1 + turn % 4
        first = 0 if turn % 2 else number - size
        part = slice(first, first + size)
        with use_num_threads(threads):
            found = normalize(
                *(arranged(each[part], order) for each in (x, dy)), gamma, beta, engine
            )
        for place in places:
            if part.start <= place < part.stop:
                assert bits(found, place - first) == alone[place], (size, place, engine, threads)


SIZES = (1, 2, 15, 16, 17, 17, 16, 15)
PLACES = (0, 1, 7, 15, 16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize(
    "length", [1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 100, 511, 512, 513, 1000, 4095, 4097, 5000]
)
def test_rows(function, length, dtype):
    for order in ("C", "spaced"):
        check(of_rows(function), (length,), dtype, order, (length,), SIZES, PLACES)


@pytest.mark.parametrize("function", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_thousands_of_rows(function, dtype):
    check(of_rows(function), (96,), dtype, "C", (96,), (1000, 4000, 999, 64), (3990, 3999))


@pytest.mark.parametrize("function", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize(
    ("length", "dtype"),
    [(1 << 18, "float32"), ((1 << 18) + 1, "float32"), (300_007, "float64"), (300_000, "float16")],
)
def test_long_rows(function, length, dtype):
    check(of_rows(function), (length,), dtype, "C", (length,), (2, 17, 16, 3), (0, 16))


SHAPES = [(8, 1), (24, 5), (16, 33), (12, 16, 16), (8, 7, 9), (8, 700), (2, 4097), (64, 28, 28)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("order", ["C", "channels last", "spaced"])
def test_groups(order, shape, dtype):
    large = np.prod(shape) > 1 << 14
    batches, places = ((1, 2, 5, 4), (0, 1, 3, 4)) if large else (SIZES, PLACES)
    for normalize in (of_groups("group_norm", 2), of_groups("instance_norm")):
        check(normalize, shape, dtype, order, shape[:1], batches, places)


def test_many_small_groups():
    """More than are in work at once."""
    check(
        of_groups("group_norm", 8),
        (64,),
        "float32",
        "C",
        (64,),
        (5000, 300, 255, 256),
        (4990, 4999),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (3,), (17,), (100,), (5, 9), (16, 8, 8)])
def test_inference(shape, dtype):
    for order in ("C", "channels last"):
        check(inference, shape, dtype, order, shape[:1], (*SIZES, 1000), (*PLACES, 999))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
@pytest.mark.parametrize("name", sorted(nc.scalers()))
def test_transform_of_scalers(name, dtype):
    rng = np.random.default_rng(3)
    for columns in (1, 3, 16, 30):
        X = (rng.normal(size=(1000, columns)) * 5.0 + 2.0).astype(dtype)
        scaler = nc.scalers()[name]().fit(X)
        whole = scaler.transform(X)
        for size in (1, 2, 15, 16, 17, 999):
            for first in (0, 1, 37, 700):
                rows = X[first : first + size]
                for each in (rows, rows.copy(), np.asfortranarray(rows)):
                    found = scaler.transform(each)
                    assert found.tobytes() == whole[first : first + size].tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_modules_of_torch(dtype):
    torch = pytest.importorskip("torch")
    modules = pytest.importorskip("normcore.torch")
    torch.manual_seed(0)
    kind = getattr(torch, dtype)
    for module, shape in (
        (modules.LayerNorm(515, dtype=kind), (515,)),
        (modules.RMSNorm(515, dtype=kind), (515,)),
        (modules.GroupNorm(2, 8, dtype=kind), (8, 7, 9)),
        (modules.BatchNorm2d(8, dtype=kind).eval(), (8, 7, 9)),
    ):
        x, dy = torch.randn(2, 17, *shape, dtype=kind)

        def run(part, module=module, x=x, dy=dy):
            leaf = x[part].clone().requires_grad_()
            y = module(leaf)
            y.backward(dy[part])
            return y.detach().numpy(), leaf.grad.numpy()

        for place in (0, 7, 16):
            alone = bits(run(slice(place, place + 1)), 0)
            for first in (0, 2, place - 1):
                if 0 <= first <= place:
                    assert bits(run(slice(first, 17)), place - first) == alone
