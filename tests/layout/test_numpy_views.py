"""NumPy arrays in C order, recognized at once: the same answers as the general forms."""

from __future__ import annotations

import itertools
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import normcore as nc
from normcore.affine import Affine
from normcore.array_backend.abstract import Backend
from normcore.array_backend.selection import get_backend
from normcore.batchnorm.inference import Inference
from normcore.layout import array_views, numpy_views, out_argument


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(-5, 4))
def test_views_are_those_of_the_general_form(shape: list[int], axis: int) -> None:
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    found = numpy_views.views(axis, (x, x + 1))
    if not -x.ndim <= axis < x.ndim or x.shape[axis] < 2:
        assert found is None
        return
    assert found is not None
    (expected,) = array_views._views(axis, (x, x + 1))
    for view, other in zip(found, expected, strict=True):
        # the general form may take positions from one of N and S to the other
        assert view.shape[1] == other.shape[1]
        channels = (view.transpose(1, 0, 2), other.transpose(1, 0, 2))
        np.testing.assert_array_equal(*(each.reshape(view.shape[1], -1) for each in channels))
    assert np.shares_memory(found[0], x)


def test_views_leave_other_arrays_to_the_general_form() -> None:
    x = np.zeros((4, 6))
    others = [
        x.T, x[:, ::2], x[::-1], x.astype(">f8"), np.ma.masked_array(x), x.tolist(),
        np.zeros((0, 6)), np.zeros((4, 1)), np.asfortranarray(x), x.view(np.recarray),
    ]  # fmt: skip
    assert [numpy_views.views(1, (each,)) for each in others] == [None] * len(others)
    assert numpy_views.views(None, (x,)) is None
    assert numpy_views.views(1, (x, np.zeros((4, 5)))) is None
    assert numpy_views.views(1, ()) is None
    assert numpy_views.views(1, (x,), np.zeros((4, 5))) is None
    read_only = x.copy()
    read_only.flags.writeable = False
    (view,) = numpy_views.views(1, (read_only,)) or (x,)
    assert not view.flags.writeable


def test_an_out_fits_or_is_for_the_general_form_to_refuse() -> None:
    memory = np.zeros(100, np.float32)
    x = memory[:24].reshape(4, 6)
    assert numpy_views.fits(x, (x,)) == numpy_views.SAME
    assert numpy_views.fits(np.empty_like(x), (x,)) == numpy_views.DISTINCT
    assert numpy_views.fits(memory[24:48].reshape(4, 6), (x,)) == numpy_views.DISTINCT
    assert numpy_views.fits(memory[24:48].reshape(4, 6), (x, memory[40:64].reshape(4, 6))) == 0
    read_only = np.empty_like(x)
    read_only.flags.writeable = False
    unaligned = np.zeros(97, np.uint8)[1:].view(np.float32).reshape(4, 6)
    for out in (
        memory[6:30].reshape(4, 6), np.empty((6, 4), np.float32), np.empty((4, 6)), read_only,
        np.empty((4, 6), ">f4"), np.empty((4, 6), np.float32, order="F"), None, x.tolist(),
        unaligned,
    ):  # fmt: skip
        assert numpy_views.fits(out, (x,)) == 0
    integers = np.zeros((4, 6), np.int64)
    assert numpy_views.fits(np.empty((4, 6), np.int64), (integers,)) == 0
    assert numpy_views.fits(np.empty((4, 6)), (integers,)) == 0


def test_the_numbers_of_a_map_are_its_rows() -> None:
    mean, var = np.array([1.0, -2.0, np.nan]), np.array([4.0, 0.0, 1e300])
    rows = numpy_views.normalizing(mean, var, None, None, 1e-5)
    np.testing.assert_array_equal(rows, [mean, np.sqrt(var + 1e-5), np.ones(3), np.zeros(3)])
    affine = Affine.from_coefficients(rows)
    assert affine.coefficients(3) is rows
    for name, row in zip(("center", "scale", "gamma", "beta"), rows, strict=True):
        np.testing.assert_array_equal(getattr(affine, name), row)
    with pytest.raises(AttributeError, match="no attribute 'delta'"):
        _ = affine.delta
    with pytest.raises(AttributeError, match="immutable"):
        affine.gamma = rows[0]
    short, narrow = np.ones(2), np.ones(3, np.float32)
    for vectors in itertools.chain(
        itertools.product([mean], [-np.ones(3), short, narrow, var.tolist()], [None], [None]),
        itertools.product([mean], [var], [short, narrow, 1.0], [None]),
        itertools.product([mean], [var], [None], [short, narrow, 0.0]),
        [(mean.tolist(), var, None, None)],
    ):
        assert numpy_views.normalizing(*vectors, 1e-5) is None
    for eps in (0.0, -1.0, np.nan, np.inf):
        assert numpy_views.normalizing(mean, var, None, None, eps) is None


# -- inference ---------------------------------------------------------------------------


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch):
    """Have every inference take the general form."""
    return lambda: monkeypatch.setattr(Inference, "of", classmethod(lambda *_, **__: None))


def layer(x: np.ndarray, axis: int = 1, **options: object) -> nc.BatchNorm:
    rng = np.random.default_rng(7)
    bn = nc.BatchNorm(x.shape[axis], axis=axis, **options).eval()
    bn.running_mean, bn.running_var = rng.normal(size=x.shape[axis]), rng.random(x.shape[axis])
    if bn.gamma is not None:
        bn.gamma = rng.normal(size=x.shape[axis])
    if bn.beta is not None:
        bn.beta = rng.normal(size=x.shape[axis])
    return bn


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32])
@pytest.mark.parametrize(("shape", "axis"), [((5, 4), 1), ((2, 3, 4, 5), 1), ((2, 5, 3), -1)])
@pytest.mark.parametrize(
    "options",
    [{}, {"activation": "relu"}, {"affine": False}, {"affine": "beta"}, {"backend": "reference"}],
)
def test_inference_and_its_gradients_are_those_of_the_general_form(
    dtype, shape, axis, options, without
):
    rng = np.random.default_rng(1)
    x = (10 * rng.normal(size=shape)).astype(dtype)
    dy = rng.normal(size=shape).astype(x.dtype if x.dtype.kind == "f" else np.float64)
    quick = layer(x, axis, **options)
    found = quick(x), *quick.backward(dy)
    into = np.empty_like(dy)
    assert quick(x, out=into) is into
    again = into.copy(), *quick.backward(dy)
    without()
    general = layer(x, axis, **options)
    expected = general(x), *general.backward(dy)
    for results_ in (found, again):
        for each, other in zip(results_, expected, strict=True):
            assert (each is None) == (other is None)
            if each is not None:
                assert each.dtype == other.dtype
                np.testing.assert_array_equal(each, other)
    vectors = [quick.running_mean, quick.running_var, quick.gamma, quick.beta]
    np.testing.assert_array_equal(
        nc.functional.batch_norm_inference(x, *vectors, axis=axis, **_functional(options)), found[0]
    )


def _functional(options: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if name != "affine"}


def test_inference_remembers_the_vectors_that_it_used():
    x = np.random.default_rng(0).normal(size=(6, 4))
    bn, twin = layer(x), layer(x)
    bn(x)
    twin(x)
    expected = twin.backward(x)
    for vector in (bn.gamma, bn.beta, bn.running_mean, bn.running_var):
        vector += 1.0
    bn.eps, bn.activation = 1.0, "relu"
    for _ in range(2):
        for each, other in zip(bn.backward(x), expected, strict=True):
            np.testing.assert_array_equal(each, other)


def test_inference_in_place_has_no_backward_pass():
    x = np.random.default_rng(0).normal(size=(6, 4))
    bn = layer(x)
    expected = bn(x.copy())
    np.testing.assert_array_equal(bn(x, out=x), expected)
    with pytest.raises(RuntimeError, match="overwrote its input"):
        bn.backward(x)
    dy = np.ones((6, 4))
    bn(x)
    bn.backward(dy, out=x)
    with pytest.raises(RuntimeError, match="overwrote its input"):
        bn.backward(dy)


def test_what_is_wrong_is_said_as_ever():
    x = np.zeros((6, 4))
    bn = layer(x)
    cases = [
        (lambda: bn(np.zeros((6, 5))), "x has 5 channels"),
        (lambda: bn(x, out=np.zeros((6, 5))), "out has shape"),
        (lambda: bn(x, out=np.asfortranarray(x)), "another memory order"),
        (lambda: bn(np.zeros(4)), "at least 2 dimensions"),
        (lambda: bn(x, groups=[1, 2]), "groups"),
        (lambda: bn(x, mask=np.ones(5, bool)), "mask has shape"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
    memory = np.zeros(40)
    with pytest.raises(ValueError, match="overlaps the input in part"):
        bn(memory[:24].reshape(6, 4), out=memory[8:32].reshape(6, 4))
    with pytest.raises(TypeError, match="dtype float32"):
        bn(x, out=np.zeros((6, 4), np.float32))
    bn.eps = -1.0
    with pytest.raises(ValueError, match="eps must be positive"):
        bn(x)
    for var in (-np.ones(4), np.ones(3)):
        with pytest.raises(ValueError, match="var"):
            nc.functional.batch_norm_inference(x, np.zeros(4), var)


def test_a_backend_that_adopts_otherwise_is_left_to_the_general_form():
    backend = get_backend("cpu")
    adopted = []

    class Moving(type(backend)):
        def adopt(self, array):
            adopted.append(1)
            return super().adopt(array).copy()

    x = np.random.default_rng(0).normal(size=(6, 4))
    expected = layer(x)(x)
    np.testing.assert_array_equal(layer(x, backend=Moving())(x), expected)
    assert adopted


@pytest.mark.parametrize("axis", [0, -1])
def test_vectors_are_no_batches(axis):
    x = np.arange(4.0)
    with pytest.raises(ValueError, match="at least 2 dimensions"):
        layer(x, axis)(x)
    with pytest.raises(ValueError, match="at least 2 dimensions"):
        nc.functional.batch_norm_inference(x, x, x, axis=axis)


@pytest.mark.parametrize("axis", [2**70, -(2**70), 2, -3])
def test_an_axis_that_there_is_not_is_refused(axis):
    x = np.ones((3, 4))
    assert numpy_views.views(axis, (x,)) is None
    for call in (
        lambda: nc.functional.moments(x, channel_axis=axis),
        lambda: nc.functional.batch_norm_inference(x, x[0], x[0], axis=axis),
    ):
        with pytest.raises(ValueError, match="out of range"):
            call()


@pytest.mark.parametrize("eps", [Decimal("1e-5"), np.array(1e-5), "1e-5", None])
def test_eps_is_a_number(eps):
    x = np.ones((3, 4))
    with pytest.raises(TypeError, match="eps must be a number"):
        nc.functional.batch_norm_inference(x, x[0], x[0], eps=eps)


def test_the_backward_pass_has_the_backend_of_the_forward_pass():
    called = []

    class Counting(type(get_backend("cpu"))):
        def normalize_backward(self, *arguments, **options):
            called.append(1)
            return super().normalize_backward(*arguments, **options)

    x = np.random.default_rng(0).normal(size=(6, 4))
    bn = layer(x)
    with nc.use_backend(Counting()):
        bn(x)
    bn.backward(x)
    assert called == [1]


def test_memory_that_is_missing_is_said_once_more():
    backend = get_backend("cpu")

    class Poor(type(backend)):
        def rescale(self, *_: object, **__: object) -> None:
            raise MemoryError("no room")

    assert issubclass(Poor, Backend)
    x = np.zeros((6, 4))
    with pytest.raises(MemoryError, match=r"no memory for the result: no room. Pass out="):
        layer(x, backend=Poor())(x)
    with pytest.raises(MemoryError, match="no room"):
        layer(x, backend=Poor())(x, out=x)


def test_arrays_may_overlap_by_their_ends_alone():
    memory = np.zeros(20)
    assert out_argument.may_overlap(memory[::2], memory[1::2])
    assert not out_argument.may_overlap(memory[:10], memory[10:])
    assert not out_argument.may_overlap(memory, [0.0])


def test_an_unchanged_layer_uses_its_map_again() -> None:
    x = np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32)
    bn = layer(x)

    def latest() -> object:
        return bn._forward._affine

    first = bn(x)
    kept = latest()
    np.testing.assert_array_equal(bn(x), first)
    assert latest() is kept
    for vector in (bn.running_mean, bn.running_var, bn.gamma, bn.beta):
        vector[2] += 0.5  # in place, as an optimizer does
        changed = bn(x)
        assert latest() is not kept
        kept = latest()
        expected = nc.functional.batch_norm_inference(
            x, bn.running_mean, bn.running_var, bn.gamma, bn.beta
        )
        np.testing.assert_array_equal(changed, expected)
    bn.eps = 0.25
    bn(x)
    assert latest() is not kept


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_map_serves_arrays_of_any_layout_in_turn(dtype: type) -> None:
    """The CPU backend keeps what it lays out for one, and it never serves another."""
    backend = nc.get_backend("cpu")
    rng = np.random.default_rng(4)
    affine = Affine(center=rng.normal(size=3), scale=rng.uniform(1, 2, size=3))
    arrays = [
        rng.normal(size=shape).astype(dtype)
        for shape in [(1, 3, 1), (40, 3, 1), (30_000, 3, 1), (2, 3, 50), (5, 3, 1)]
    ]
    arrays += [arrays[2].transpose(0, 1, 2)[::2], np.asfortranarray(arrays[1])]
    for x in [*arrays, *arrays[::-1]]:
        expected = (x - affine.center[:, None]) / affine.scale[:, None]
        np.testing.assert_array_equal(backend.rescale(x, affine), expected.astype(dtype))
