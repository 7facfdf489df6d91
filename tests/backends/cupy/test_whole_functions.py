"""Functions and scalers on layouts that were met before: the bits of the general way."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_host import build
from cuda_host.comparing import on_host as host

import normcore as nc

pytestmark = build.needs_compiler
F = nc.functional
RNG = np.random.default_rng(3)


@pytest.fixture
def backend(registered):
    """Return the backend that is chosen for arrays."""
    return registered


def drawn(cupy, shape, dtype="float32", number=1):
    made = [cupy.asarray((RNG.normal(size=shape) + 3.0).astype(dtype)) for _ in range(number)]
    return made[0] if number == 1 else made


def empty_like(x):
    import cupy

    return cupy.empty_like(x)


#: Of the data, and of gamma and beta.
DTYPES = [
    ("float64", "float32"), ("float32", "float64"), ("float32", "float32"), ("float16", "float32"),
    ("float32", "float16"), ("float16", "float16"), ("float32", None),
]  # fmt: skip


@pytest.mark.parametrize("shape", [(6, 5), (3, 8, 4, 6), (5, 7, 3)])
@pytest.mark.parametrize(("dtype", "vectors"), DTYPES[:-1])
def test_inference(cupy, agree, shape, dtype, vectors):
    x = drawn(cupy, shape, dtype)
    mean, gamma, beta = drawn(cupy, shape[1], vectors, 3)
    var = cupy.asarray(RNG.uniform(0.5, 2.0, shape[1]).astype(vectors))
    for given in ((gamma, beta), (None, beta), (gamma, None), (None, None)):
        agree(lambda given=given: [F.batch_norm_inference(x, mean, var, *given)])
    agree(lambda: [F.batch_norm_inference(x, mean, var, gamma, beta, out=empty_like(x))])


def test_inference_is_one_launch(cupy, agree):
    x, (mean, var) = drawn(cupy, (4, 3, 5)), cupy.ones((2, 3))
    F.batch_norm_inference(x, mean, var)
    cupy.launched.clear()
    F.batch_norm_inference(x, mean, var, eps=1e-3)
    assert len(cupy.launched) == 1


def masks(cupy, shape, axis):
    """Return none, one for each sample, and one for each position."""
    shown = RNG.random(shape[:axis] + shape[axis + 1 :]) < 0.7
    shown[...] |= np.arange(shown.size).reshape(shown.shape) < 2  # two values are left
    samples = np.arange(shape[0]) % 3 != 1
    return [None, *map(cupy.asarray, ([samples, shown] if axis else [shown]))]


@pytest.mark.parametrize(("shape", "axis"), [((6, 5), 1), ((4, 3, 5, 8), 1), ((5, 4, 7), 0)])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_masks_and_activations(cupy, agree, shape, axis, dtype, activation):
    x, dy = drawn(cupy, shape, dtype, 2)
    x, dy = x - 3.0, dy - 3.0  # of both signs
    gamma, beta = drawn(cupy, shape[axis], "float32", 2)
    mean, var = drawn(cupy, shape[axis], "float64", 2)
    for mask in masks(cupy, shape, axis):
        for out in (lambda like: None, empty_like):
            options = {"axis": axis, "activation": activation, "mask": mask}

            def both(out=out, options=options):
                y, moments = F.batch_norm(x, gamma, beta, out=out(x), **options)
                results = [y, moments.parts, moments.mean, moments.var(1)]
                for training in (True, False):
                    results += F.batch_norm_backward(
                        dy, x, moments, gamma, beta, training=training, out=out(dy), **options
                    )
                y = F.batch_norm_inference(x, mean, var, gamma, beta, out=out(x), **options)
                return [*results, y]

            agree(both, planned=4)


@pytest.mark.parametrize("mask", ["another length", "numbers", "of the host"])
def test_masks_that_do_not_fit_are_done_generally(backend, cupy, mask):
    x = drawn(cupy, (4, 3, 5))
    given = {
        "another length": cupy.asarray(np.ones(5, bool)),
        "numbers": cupy.asarray(np.ones(4)),
        "of the host": [True, False, True, True],
    }[mask]
    if mask == "of the host":
        y, _ = F.batch_norm(x, mask=given)
        assert (host(y)[1] == 0).all()
        return
    with pytest.raises((TypeError, ValueError), match="mask"):
        F.batch_norm(x, mask=given)


def test_an_out_over_a_mask_or_beta_is_refused(backend, cupy):
    memory = cupy.asarray(np.ones(64, np.float32))
    x, out = drawn(cupy, (4, 3, 5)), memory[:60].reshape(4, 3, 5)
    _, moments = F.batch_norm(x)
    mask = memory.view(np.bool_)[:4]
    vector = drawn(cupy, 3)
    for _ in range(2):
        F.batch_norm(x, out=out, mask=cupy.asarray(np.ones(4, bool)))
        F.batch_norm_backward(x, x, moments, vector, vector, out=out, activation="relu")
        with pytest.raises(ValueError, match="out overlaps mask"):
            F.batch_norm(x, out=out, mask=mask)
        with pytest.raises(ValueError, match="out overlaps beta"):
            F.batch_norm_backward(x, x, moments, vector, memory[3:6], out=out, activation="relu")


def test_a_map_by_vectors_of_the_device_copies_none(backend, cupy):
    """Where gaps have the general way be taken, too."""
    x = drawn(cupy, (4, 3, 5))
    mean, var = cupy.ones((2, 3))
    expected = host(F.batch_norm_inference(x, mean, var))[:, :, ::2]
    np.testing.assert_array_equal(host(F.batch_norm_inference(x[:, :, ::2], mean, var)), expected)


@pytest.mark.parametrize("shape", [(7, 40), (3, 5, 8), (2, 9001), (4, 7)])
@pytest.mark.parametrize(("dtype", "vectors"), DTYPES)
def test_rows(cupy, agree, shape, dtype, vectors):
    x, dy = drawn(cupy, shape, dtype, 2)
    gamma, beta = (None, None) if vectors is None else drawn(cupy, shape[-1], vectors, 2)
    _, moments = F.layer_norm(x)
    for out in (lambda like: None, empty_like):

        def both(out=out):
            y, found = F.layer_norm(x, gamma, beta, out=out(x))
            return [y, found.parts, *F.layer_norm_backward(dy, x, moments, gamma, out=out(dy))]

        def uncentered(out=out):
            y, found = F.rms_norm(x, gamma, out=out(x))
            return [y, found.parts, *F.rms_norm_backward(dy, x, moments, gamma, out=out(dy))]

        agree(both)
        agree(uncentered)


def test_rows_of_several_axes(cupy, agree):
    x, dy = drawn(cupy, (3, 4, 2, 6), "float32", 2)
    gamma, beta = drawn(cupy, (2, 6), "float64", 2)
    _, moments = F.layer_norm(x, num_axes=2)
    options = {"num_axes": 2, "eps": 1e-3}

    def both():
        y, found = F.layer_norm(x, gamma, beta, **options)
        return [y, found.parts, *F.layer_norm_backward(dy, x, moments, gamma, **options)]

    agree(both)


@pytest.mark.parametrize("shape", [(3, 4, 2, 6), (5, 6), (2, 4, 33), (2, 6, 1, 8)])
@pytest.mark.parametrize(("dtype", "vectors"), DTYPES[1:3])
def test_groups(cupy, agree, shape, dtype, vectors):
    x, (gamma, beta) = drawn(cupy, shape, dtype), drawn(cupy, shape[1], vectors, 2)

    def results(y, moments):
        return [y, moments.parts, moments.mean, moments.var(1)]

    for given in ((gamma, beta), (None, None)):
        agree(lambda given=given: results(*F.group_norm(x, 2, *given)))
        agree(lambda given=given: results(*F.instance_norm(x, *given, out=empty_like(x))))
    cupy.launched.clear()
    F.group_norm(x, 2, gamma, beta)
    assert len(cupy.launched) == 2


def test_groups_of_other_axes_are_done_generally(cupy, agree):
    x = drawn(cupy, (3, 5, 4))
    agree(lambda: [F.group_norm(x, 2, axis=-1)[0]], planned=0)
    agree(lambda: [F.group_norm(x[:, 1:], 2)[0]], planned=0)
    with pytest.raises(ValueError, match="does not divide the 5 channels"):
        F.group_norm(x, 2)


def test_rows_that_are_no_aligned_vectors_are_done_generally(cupy, agree):
    memory = drawn(cupy, (6, 44))
    gamma = drawn(cupy, 41, "float32")[1:]
    for x, weight in ((memory[:, 1:41], None), (memory[:, ::2], None), (memory[:, :40], gamma)):
        agree(lambda x=x, weight=weight: [F.layer_norm(x, weight)[0]], planned=0)


def test_errors_of_rows_are_found(backend, cupy):
    x = drawn(cupy, (4, 6))
    _, moments = F.layer_norm(x)
    wrong = F.moments(x, channel_axis=1)
    with pytest.raises(ValueError, match="moments are of 6 samples"):
        F.layer_norm_backward(x, x, wrong)
    with pytest.raises(ValueError, match="gamma must have shape"):
        F.layer_norm(x, cupy.ones(4))
    with pytest.raises(ValueError, match="num_axes"):
        F.layer_norm(x, num_axes=3)
    with pytest.raises(TypeError, match="dy has dtype"):
        F.layer_norm_backward(cupy.ones((4, 6)), x, moments)
    with pytest.raises(ValueError, match="overlaps"):
        F.layer_norm(x[:3], out=x[1:])


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "uint8"])
@pytest.mark.parametrize("skipna", [False, True])
def test_statistics(cupy, agree, axis, dtype, skipna):
    x = drawn(cupy, (5, 4, 6), dtype)
    options = {"channel_axis": axis, "skipna": skipna}

    def moments():
        found = F.moments(x, **options)
        return [found.parts, found.mean, found.var(), found.var(1), found.std(2)]

    def extrema():
        found = F.extrema(x, **options)
        return [found.min, found.max, found.count]

    agree(moments)
    agree(extrema)


def test_an_axis_that_equals_one_that_was_met_is_no_axis(backend, cupy):
    x = drawn(cupy, (5, 4, 6))
    F.moments(x, channel_axis=1)
    F.moments(x[:, :, ::2], channel_axis=1)
    for axis in (1.0, "1"):
        with pytest.raises(TypeError, match="axis must be an integer"):
            F.moments(x, channel_axis=axis)
        with pytest.raises(TypeError, match="axis must be an integer"):
            F.batch_norm(x, axis=axis)
    one, other = (F.moments(x, channel_axis=axis).mean for axis in (1, np.int64(1)))
    np.testing.assert_array_equal(host(one), host(other))


def test_wide_integers_are_observed_generally(cupy, agree):
    x = cupy.asarray(np.array([[2**60, 3], [2**60 + 1, 5]]))
    agree(lambda: [F.moments(x, channel_axis=1).mean], planned=0)


SCALERS = {
    "standard": lambda: nc.StandardScaler(),
    "minmax": lambda: nc.MinMaxScaler(),
    "clipped": lambda: nc.MinMaxScaler((0.25, 0.3), clip=True),
    "maxabs": lambda: nc.MaxAbsScaler(),
}


@pytest.mark.parametrize("name", SCALERS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_scalers(cupy, agree, name, dtype):
    table = RNG.normal(size=(40, 6)) * 3.0 + 1.0
    scaler, x = SCALERS[name]().fit(table), drawn(cupy, (9, 6), dtype)
    y = scaler.transform(x)
    agree(lambda: [scaler.transform(x, out=empty_like(x))])
    agree(lambda: [scaler.inverse_transform(y)])
    agree(lambda: [scaler.transform(x)])
    np.testing.assert_array_equal(host(y), scaler.transform(host(x)))


def test_coefficients_of_the_way_back_are_brought_to_the_device_once(backend, cupy):
    scaler, x = nc.StandardScaler().fit(RNG.normal(size=(9, 3))), drawn(cupy, (4, 3))
    scaler.inverse_transform(x)
    before = len(cupy.order.timeline)
    scaler.inverse_transform(x)
    assert {each.engine for each in cupy.order.timeline[before:]} == {"kernel"}


def test_tables_that_are_not_plain_are_mapped_generally(cupy, agree):
    scaler = nc.StandardScaler().fit(RNG.normal(size=(9, 3)))
    whole = cupy.asarray(np.arange(12, dtype=np.int32).reshape(4, 3))
    x = drawn(cupy, (4, 3))
    shown = cupy.asarray(np.array([True, False, True]))
    agree(lambda: [scaler.transform(whole)], planned=0)
    agree(lambda: [scaler.transform(x, where=shown)], planned=0)
    with pytest.raises(ValueError, match="features"):
        scaler.transform(drawn(cupy, (4, 2)))


def test_a_table_may_be_mapped_in_place(backend, cupy):
    scaler, x = nc.StandardScaler().fit(RNG.normal(size=(9, 3))), drawn(cupy, (4, 3))
    expected = host(scaler.transform(x))
    assert scaler.transform(x, out=x) is x
    np.testing.assert_array_equal(host(x), expected)


def test_an_out_with_gaps_between_those_of_the_input_is_refused(backend, cupy):
    """Rows 0 and 4 of a table are normalized to rows 4 and 8."""
    memory = drawn(cupy, (12, 3))
    before = host(memory)
    F.batch_norm(memory[0:5:4], out=drawn(cupy, (12, 3))[0:5:4])
    with pytest.raises(ValueError, match="overlap"):
        F.batch_norm(memory[0:5:4], out=memory[4:9:4])
    np.testing.assert_array_equal(host(memory), before)
    y, _ = F.batch_norm(memory[0:5:4], out=memory[1:6:4])  # between them
    np.testing.assert_allclose(host(y), F.batch_norm(before[0:5:4])[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(host(memory)[0:5:4], before[0:5:4])
