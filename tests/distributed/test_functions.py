"""Batch norm over several ranks, here threads; processes are in the tests of their libraries."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from thread_ranks import ThreadCommunicator, on_ranks

import normcore as nc
from normcore import functional
from normcore.distributed.communicator import ProcessGroup

BACKENDS = ["reference", "cpu"]


def split(array, sizes):
    return np.split(array, np.cumsum(sizes)[:-1])


def example(shape, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) * 3 + 100).astype(dtype)


LAYOUTS = {
    "table": lambda n: example((n, 5)),
    "NCHW": lambda n: example((n, 5, 3, 4)),
    "channels last": lambda n: np.moveaxis(example((n, 3, 4, 5)), -1, 1),
    "several views": lambda n: example((n, 5, 6, 8))[:, :, ::2, ::2],
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sizes", [(7, 4), (7, 0, 4), (1, 9, 1), (11,)])
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("masked", [False, True])
def test_ranks_are_one_batch(backend, layout, sizes, activation, masked):
    x = LAYOUTS[layout](sum(sizes))
    dy = example(x.shape, 1) - 100
    mask = np.arange(len(x)) % 3 != 1 if masked else None
    gamma, beta = np.linspace(-1, 2, 5), np.linspace(0.5, -0.5, 5)
    options = {"activation": activation, "backend": backend}
    y, moments = functional.batch_norm(x, gamma, beta, mask=mask, **options)
    expected = functional.batch_norm_backward(dy, x, moments, gamma, beta, mask=mask, **options)
    xs, dys = split(x, sizes), split(dy, sizes)
    masks = [None] * len(sizes) if mask is None else split(mask, sizes)

    def rank_of_many(communicator, rank):
        both = {**options, "mask": masks[rank], "communicator": communicator}
        y, moments = functional.batch_norm(xs[rank], gamma, beta, **both)
        return (
            y,
            moments,
            *functional.batch_norm_backward(dys[rank], xs[rank], moments, gamma, beta, **both),
        )

    found = on_ranks(rank_of_many, len(sizes))
    ys, all_moments, dxs, dgammas, dbetas = zip(*found, strict=True)
    assert_allclose(np.concatenate(ys), y, rtol=1e-12, atol=1e-12)
    for each in all_moments:
        assert_array_equal(each.parts, all_moments[0].parts)  # the same bits on every rank
        assert_array_equal(each.count, moments.count)
        assert_allclose(each.mean, moments.mean, rtol=2**-52)
        assert_allclose(each.var(), moments.var(), rtol=4 * 2**-52)
    assert_allclose(np.concatenate(dxs), expected[0], rtol=1e-12, atol=1e-12)
    assert_allclose(sum(dgammas), expected[1], rtol=1e-12, atol=1e-12)
    assert_allclose(sum(dbetas), expected[2], rtol=1e-12, atol=1e-12)


def test_spread_between_ranks_counts():
    """Averaging the variances of ranks would give 0."""
    x = np.repeat([[1.0], [3.0]], 4, axis=0)

    def rank_of_two(communicator, rank):
        return functional.batch_norm(x[4 * rank : 4 * rank + 4], communicator=communicator)[1]

    for moments in on_ranks(rank_of_two, 2):
        assert moments.count == 8
        assert moments.mean == 2
        assert moments.var() == 1


def test_large_offsets_lose_nothing():
    x = 1e12 + np.arange(1000.0)[:, None]

    def one(communicator, rank):
        part = x[rank::3]
        return functional.batch_norm(part, communicator=communicator)[1]

    for moments in on_ranks(one, 3):
        assert moments.m2 == (1000**3 - 1000) / 12


def test_float32_and_out():
    x = example((6, 2), dtype=np.float32)
    expected, _ = functional.batch_norm(x)

    def one(communicator, rank):
        part = x[3 * rank : 3 * rank + 3].copy()
        y, _ = functional.batch_norm(part, out=part, communicator=communicator)
        return y is part and y.dtype == np.float32, y

    (mine, first), (theirs, second) = on_ranks(one, 2)
    assert mine
    assert theirs
    assert_array_equal(np.concatenate([first, second]), expected)


def test_given_statistics_need_no_exchange():
    moments = nc.Moments.of(1, [0.0], [1.0])

    def one(communicator, rank):
        functional.batch_norm_backward(
            np.ones((2, 1)), np.ones((2, 1)), moments, training=False, communicator=communicator
        )
        return communicator.calls

    assert on_ranks(one, 2) == [0, 0]


def test_disagreeing_on_channels():
    def forward(communicator, rank):
        functional.batch_norm(np.ones((4, 3 + rank)), communicator=communicator)

    for error in on_ranks(forward, 3):
        assert isinstance(error, ValueError)
        assert "rank 0 has 3, rank 1 has 4, rank 2 has 5" in str(error)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"x": np.ones((4, 3), complex)}, TypeError),
        ({"x": np.ones(4)}, ValueError),
        ({"gamma": np.ones(2)}, ValueError),
        ({"eps": -1.0}, ValueError),
        ({"mask": np.ones(9, bool)}, ValueError),
        ({"out": np.ones((4, 3), np.float32)}, TypeError),
        ({"backend": "nowhere"}, ValueError),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_one_rank_refuses_its_arguments(arguments, kind):
    def forward(communicator, rank):
        given = {"x": example((4, 3)), **(arguments if rank == 1 else {})}
        functional.batch_norm(given.pop("x"), **given, communicator=communicator)

    first, second, third = on_ranks(forward, 3)
    assert isinstance(second, kind)
    for error in (first, third):
        assert isinstance(error, RuntimeError)
        assert "rank 1 of 3 refused its arguments" in str(error)


def test_one_rank_refuses_its_gradient():
    x = example((4, 3))

    def backward(communicator, rank):
        _, moments = functional.batch_norm(x, communicator=communicator)
        dy = np.ones((4, 2)) if rank == 0 else np.ones((4, 3))
        functional.batch_norm_backward(dy, x, moments, communicator=communicator)

    first, second = on_ranks(backward, 2)
    assert isinstance(first, ValueError)
    assert "dy has shape (4, 2)" in str(first)
    assert isinstance(second, RuntimeError)


@pytest.mark.parametrize(("sizes", "count"), [((1, 0), 1), ((0, 0), 0)])
def test_too_few_values_of_all_ranks(sizes, count):
    def forward(communicator, rank):
        functional.batch_norm(np.ones((sizes[rank], 3)), communicator=communicator)

    for error in on_ranks(forward, 2):
        assert isinstance(error, ValueError)
        assert f"all 2 ranks together have {count}" in str(error)


def test_ranks_go_on_after_an_error():
    def twice(communicator, rank):
        with pytest.raises((ValueError, RuntimeError)):
            functional.batch_norm(example((4, 3)), np.ones(3 - rank), communicator=communicator)
        return functional.batch_norm(example((4, 3)), communicator=communicator)[1].count[0]

    assert on_ranks(twice, 2) == [8, 8]


def test_what_is_no_communicator():
    with pytest.raises(TypeError, match="rank, size and allreduce, which int has not"):
        functional.batch_norm(np.ones((2, 2)), communicator=3)
    with pytest.raises(ValueError, match="rank 2 is not one of a communicator of size 2"):
        ProcessGroup(ThreadCommunicator(2, 2, [], None))
