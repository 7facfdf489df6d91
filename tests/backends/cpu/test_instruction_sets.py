"""The builds of the CPU kernels: which one runs, and the same bits from all of them."""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from normcore_cpu import instruction_sets
from normcore_cpu.backend import CpuBackend
from normcore_cpu.instruction_sets import VARIABLE, available, chosen
from processes import printed, run_python

import normcore as nc
from normcore.affine import Affine

BUILDS = {name: CpuBackend(name) for name in available()}
RNG = np.random.default_rng(0)
SHAPES = [(40, 3, 1), (9000, 3, 1), (700, 64, 1), (300, 100, 1), (40, 5, 784), (50, 7, 49)]


def arrays(shape: tuple[int, ...], dtype: str, order: str) -> np.ndarray:
    x = (RNG.normal(size=shape) * 10.0 ** RNG.integers(-3, 4, size=(1, shape[1], 1)) + 2).astype(
        dtype
    )
    if order == "F":
        return np.asfortranarray(x)
    return np.repeat(x, 2, axis=0)[::2] if order == "strided" else x


def assert_same(results: list[tuple[np.ndarray, ...]]) -> None:
    for result in results[1:]:
        for one, other in zip(results[0], result, strict=True):
            assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int16"])
@pytest.mark.parametrize("order", ["C", "F", "strided"])
@pytest.mark.parametrize("nan", [False, True])
def test_every_kernel_gives_the_same_bits(shape, dtype, order, nan) -> None:
    x = arrays(shape, dtype, order)
    if nan and x.dtype.kind == "f":
        x[RNG.random(x.shape) < 0.02] = np.nan
    channels = shape[1]
    dy = RNG.normal(size=shape).astype(x.dtype if x.dtype.kind == "f" else np.float64)
    center, scale, gamma, beta = RNG.normal(size=(4, channels))
    affine = Affine(center=center, scale=np.abs(scale) + 0.1, gamma=gamma, beta=beta)
    mask = RNG.random((shape[0], shape[2])) < 0.8

    def results(backend: CpuBackend) -> tuple[np.ndarray, ...]:
        extrema = backend.extrema(x, skipna=True)
        rows = x[:, :, 0]
        y, of_rows = backend.normalize_rows(rows, gamma, beta, 1e-5)
        return (
            y,
            of_rows.parts,
            *backend.normalize_rows_backward(dy[:, :, 0], rows, of_rows, gamma, 1e-5),
            backend.moments(x, skipna=True).parts,
            backend.moments(x, weights=mask, skipna=True).parts,
            extrema.min,
            extrema.max,
            backend.quantiles(x, [0.1, 0.5], skipna=True).values,
            backend.rescale(x, affine),
            backend.rescale(x, affine, clip=(-1.0, 1.0), activation="relu", mask=mask),
            *backend.backward_reduce(dy, x, center),
            *backend.backward_reduce(dy, x, center, relu_mask=affine, mask=mask),
            backend.backward_elemt(dy, x, center, gamma, beta, scale),
            backend.backward_elemt(dy, x, center, gamma, beta, scale, relu_mask=affine, mask=mask),
            *in_one_go(backend, x, dy, gamma, beta),
            *in_one_go(backend, x, dy, gamma, beta, activation="relu", mask=mask),
        )

    assert_same([results(backend) for backend in BUILDS.values()])


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "shape", [(7, 3, 5), (64, 32, 196), (300, 5, 49), (40, 20, 1003), (2000, 100, 1), (101, 3, 1)]
)
def test_rows_that_do_not_fill_vectors(build, dtype, shape) -> None:
    """The last vector of a row overlaps the one before, and in place nothing is mapped twice."""
    x = arrays(shape, dtype, "C")
    center, scale, gamma, beta = RNG.normal(size=(4, 1, shape[1], 1))
    affine = Affine(
        center=center.ravel(), scale=scale.ravel(), gamma=gamma.ravel(), beta=beta.ravel()
    )
    expected = (((x.astype(np.float64) - center) / scale) * gamma + beta).astype(dtype)
    around = np.full((3, *shape), -7.0, dtype)
    BUILDS[build].rescale(x, affine, out=around[1])
    np.testing.assert_array_equal(around[1], expected)
    assert (around[::2] == -7.0).all()
    BUILDS[build].rescale(x, affine, out=x)
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(700, 1000, 1), (5003, 100, 1), (40_001, 3, 1), (90, 21, 49)])
def test_groups_side_by_side_against_numpy(build, dtype, shape) -> None:
    """Full groups are read in place and the last one may be partial, with NaN anywhere."""
    x = arrays(shape, dtype, "C")
    x[RNG.random(shape) < 0.01] = np.nan
    x[:, 1] = np.nan
    x[3, 2], x[5, 2] = 1e30, -np.inf
    number = ~np.isnan(x)
    extrema = BUILDS[build].extrema(x, skipna=True)
    np.testing.assert_array_equal(extrema.count, number.sum((0, 2)))
    rest = np.arange(shape[1]) != 1
    least, largest = np.where(number, x, np.inf), np.where(number, x, -np.inf)
    np.testing.assert_array_equal(extrema.min[rest], least.min((0, 2))[rest])
    np.testing.assert_array_equal(extrema.max[rest], largest.max((0, 2))[rest])
    x[:, 2] = 2.0
    moments = BUILDS[build].moments(x, skipna=True)
    exact = x[:, rest].astype(np.float64)
    np.testing.assert_allclose(moments.mean[rest], np.nanmean(exact, (0, 2)), rtol=1e-11)
    np.testing.assert_allclose(moments.var()[rest], np.nanvar(exact, (0, 2)), rtol=1e-11)
    assert moments.var()[2] == 0.0
    np.testing.assert_array_equal(moments.count, np.isfinite(x).sum((0, 2)))


def in_one_go(backend, x, dy, gamma, beta, **options):
    """Batch norm forward and backward."""
    y, moments = backend.normalize(x, gamma, beta, 1e-3, **options)
    return (
        y,
        moments.parts,
        *backend.normalize_backward(dy, x, moments, gamma, beta, 1e-3, **options),
    )


@pytest.mark.parametrize("shape", [(1_200_000, 8, 1), (40, 5, 50_000), (600_000, 17, 1)])
def test_large_results_are_those_of_their_pieces(shape) -> None:
    """They are written past the caches."""
    x = RNG.normal(size=shape).astype(np.float32)
    dy = RNG.normal(size=shape).astype(np.float32)
    center, scale, gamma, beta = RNG.uniform(0.5, 2.0, size=(4, shape[1]))
    affine = Affine(center=center, scale=scale, gamma=gamma, beta=beta)
    assert x.nbytes > 1 << 25
    for backend in BUILDS.values():
        y = backend.rescale(x, affine)
        dx = backend.backward_elemt(dy, x, center, gamma, beta, scale)
        for part in np.array_split(np.arange(shape[0]), 7):
            rows = slice(part[0], part[-1] + 1)
            np.testing.assert_array_equal(y[rows], backend.rescale(x[rows], affine))
            piece = backend.backward_elemt(dy[rows], x[rows], center, gamma, beta, scale)
            np.testing.assert_array_equal(dx[rows], piece)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([np.float32, np.float64]),
    st.integers(1, 40),
    st.integers(600, 1500),
)
def test_any_bits_of_floats(seed, dtype, channels, rows) -> None:
    """Magnitudes over the whole range, subnormals, zeros of both signs, infinity and NaN."""
    rng = np.random.default_rng(seed)
    x = rng.bytes(rows * channels * np.dtype(dtype).itemsize)
    x = np.frombuffer(x, dtype).reshape(rows, channels, 1).copy()
    x[rng.random(x.shape) < 0.1] = 0.0
    vectors = np.frombuffer(rng.bytes(4 * channels * 8), np.float64).reshape(4, channels)
    affine = Affine(**dict(zip(("center", "scale", "gamma", "beta"), vectors, strict=True)))

    def canonical(array: np.ndarray) -> np.ndarray:
        return np.where(np.isnan(array), np.nan, array)  # the payload of NaN is not promised

    results = []
    for backend in BUILDS.values():
        extrema = backend.extrema(x, skipna=True)
        found = backend.moments(x, skipna=True).parts, extrema.min, backend.rescale(x, affine)
        results.append(tuple(canonical(each) for each in found))
    assert_same(results)


def test_best_build_is_chosen(monkeypatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert available()[0] == "baseline"
    assert chosen() == available()[-1]
    assert nc.backends()["cpu"].detail.startswith(chosen())


@pytest.mark.parametrize("name", available())
def test_variable_names_a_build(name: str) -> None:
    code = "import normcore as nc; print(nc.get_backend('cpu').instruction_set)"
    assert printed(code, **{VARIABLE: name}) == name


def test_unknown_build_is_a_clear_error(monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, "sse9")
    with pytest.raises(ValueError, match=r"NORMCORE_INSTRUCTION_SET is 'sse9'.*baseline, avx2"):
        chosen()
    status = CpuBackend.probe()
    assert not status.ready
    assert "sse9" in status.reason


def test_slower_backend_does_not_step_in_for_an_unknown_build() -> None:
    code = "import numpy, normcore as nc; nc.StandardScaler().fit(numpy.ones((3, 2)))"
    found = run_python("-c", code, check=False, **{VARIABLE: "sse9"})
    assert "\nValueError: backend 'cpu', which serves numpy.ndarray, is not ready" in found.stderr
    assert "'cpu', which serves numpy.ndarray, is not ready: NORMCORE_INSTR" in found.stderr
    assert "'sse9', which is no instruction set; known: baseline, avx2" in found.stderr


def test_build_that_the_processor_lacks_is_a_clear_error(monkeypatch) -> None:
    monkeypatch.setattr(instruction_sets, "available", lambda: ("baseline",))
    monkeypatch.setenv(VARIABLE, "avx512")
    with pytest.raises(ValueError, match=r"'avx512'.*lacks; usable: baseline"):
        chosen()


def test_unknown_build_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="'sse9'"):
        CpuBackend("sse9")


@pytest.mark.parametrize("name", available())
def test_entry_points_are_of_one_build(name: str) -> None:
    package = instruction_sets.INSTRUCTION_SETS[name]
    kernels = dict(vars(instruction_sets.kernels(name)))
    tensors = sys.modules[f"{package}.tensors"]
    assert kernels.pop("c_functions") is tensors.c_functions
    for each, kernel in kernels.items():
        assert kernel.__name__ == each
        assert kernel.__module__.rpartition(".")[0] == package


@pytest.mark.parametrize(
    ("modules", "missing"),
    [
        ({}, "statistics"),
        ({"moments": "moments = abs", "extrema": "extrema = abs"}, "statistics"),
        ({"statistics": "moments = abs"}, "extrema"),
        ({"statistics": "from .tasks import Task"}, "tasks"),
        ({"statistics": "raise ValueError('tiling.Task size changed')"}, "size changed"),
    ],
)
def test_modules_that_are_missing_or_of_another_build_are_one_clear_error(
    modules: dict[str, str], missing: str, tmp_path: Path, monkeypatch
) -> None:
    package = tmp_path / f"kernels_{tmp_path.name}"
    package.mkdir()
    for name, source in {"__init__": "", **modules}.items():
        (package / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(instruction_sets.INSTRUCTION_SETS, "stale", package.name)
    with pytest.raises(
        ImportError, match=rf"in {package.name} are not built.*pip install.*{missing}"
    ):
        instruction_sets.kernels("stale")


def _environment() -> dict[str, str]:
    import os

    return {key: value for key, value in os.environ.items() if key != VARIABLE}


def test_a_pickle_names_what_was_asked_for_and_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that lacks the best instructions of this one opens what names none."""
    best, named = (pickle.dumps(CpuBackend(name)) for name in (None, "baseline"))
    monkeypatch.setenv(VARIABLE, "baseline")
    assert pickle.loads(best).instruction_set == "baseline"
    monkeypatch.undo()
    assert pickle.loads(named).instruction_set == "baseline"
    backend = CpuBackend("baseline")
    assert copy.deepcopy(nc.StandardScaler(backend=backend)).backend is backend
