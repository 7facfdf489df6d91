"""The BatchNorm layer over several ranks, here threads: as one layer on the joined batches."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from batchnorm_examples import assert_same_state, state
from numpy.testing import assert_allclose, assert_array_equal
from thread_ranks import on_ranks

import normcore as nc

CLOSE = {"rtol": 1e-12, "atol": 1e-12}
SIZES = [(7, 4), (5, 0, 6), (1, 9, 1)]


def batches(sizes, number=2):
    """Return batches and gradients of all ranks together, and how to take a rank's own."""
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(2, number, sum(sizes), 3, 4))
    return 3 * x + 100, dy, np.cumsum(sizes)[:-1]


def made(**options):
    bn = nc.BatchNorm(3, **options)
    for name, value in (("gamma", [0.5, -2.0, 1.0]), ("beta", [0.1, 0.2, 0.3])):
        if getattr(bn, name) is not None:
            setattr(bn, name, value)
    return bn


def no_error(found):
    for each in found:
        if isinstance(each, Exception):
            raise each
    return found


OPTIONS = {
    "plain": {},
    "decay and ddof": {"decay": 0.75, "ddof": 0},
    "cumulative, relu": {"momentum": None, "activation": "relu"},
    "beta alone": {"affine": "beta"},
    "renormalized": {"r_max": 1.5, "d_max": 0.5, "activation": "relu"},
    "reference": {"backend": "reference"},
}


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("masked", [False, True])
def test_ranks_are_one_layer(sizes, options, masked):
    x, dy, cuts = batches(sizes)
    mask = np.random.default_rng(1).random((sum(sizes), 4)) < 0.8 if masked else None
    alone = made(**options)
    expected = [(alone(each, mask=mask), *alone.backward(dy[0])) for each in x]
    alone.eval()
    evaluated = alone(x[0])
    masks = [None] * len(sizes) if mask is None else np.split(mask, cuts)

    def one(communicator, rank):
        bn = made(**options, communicator=communicator)
        mine, gradient = (np.split(each, cuts, axis=1)[rank] for each in (x, dy))
        steps = [(bn(each, mask=masks[rank]), *bn.backward(gradient[0])) for each in mine]
        calls = communicator.calls
        assert calls == 8  # two for each pass
        bn.eval()
        y = bn(mine[0])
        bn.backward(gradient[0])
        bn.train().freeze()(mine[0])
        assert communicator.calls == calls
        return steps, y, bn

    found = no_error(on_ranks(one, len(sizes)))
    for step, (y, dx, *vectors) in enumerate(expected):
        own = [steps[step] for steps, _, _ in found]
        assert_allclose(np.concatenate([each[0] for each in own]), y, **CLOSE)
        assert_allclose(np.concatenate([each[1] for each in own]), dx, **CLOSE)
        for position, vector in enumerate(vectors, 2):
            if vector is None:
                assert all(each[position] is None for each in own)
            else:
                assert_allclose(sum(each[position] for each in own), vector, rtol=1e-11, atol=1e-11)
    assert_allclose(np.concatenate([y for _, y, _ in found]), evaluated, **CLOSE)
    for _, _, bn in found:
        assert_same_state(bn, state(found[0][2]))  # the same bits on every rank
        assert_allclose(bn.running_mean, alone.running_mean, rtol=1e-14)
        assert_allclose(bn.running_var, alone.running_var, rtol=1e-14)
        assert bn.num_batches_tracked == 2


def test_running_statistics_that_do_not_follow():
    x, _, cuts = batches((7, 4))

    def one(communicator, rank):
        bn = made(communicator=communicator)
        before = state(bn)
        bn(np.split(x[0], cuts)[rank], update_stats=False)
        assert_same_state(bn, before)
        untracked = made(communicator=communicator, track_running_stats=False)
        y = untracked(np.split(x[0], cuts)[rank])
        calls = communicator.calls
        untracked.eval()(x[0])  # what one rank evaluates is its own
        assert communicator.calls == calls == 4
        return y

    expected = made(track_running_stats=False)(x[0])
    assert_allclose(np.concatenate(no_error(on_ranks(one, 2))), expected, **CLOSE)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("method", ["pooled", "algorithm2"])
def test_population_statistics_are_those_of_all_ranks(sizes, method):
    x, _, cuts = batches(sizes, 3)
    alone = made()
    with nc.population_statistics([alone], method=method):
        list(map(alone, x))

    def one(communicator, rank):
        bn = made(communicator=communicator)
        with nc.population_statistics([bn], method=method):
            for each in x:
                bn(np.split(each, cuts)[rank])
        return bn.running_mean, bn.running_var, bn.num_batches_tracked

    for mean, var, number in no_error(on_ranks(one, len(sizes))):
        assert_allclose(mean, alone.running_mean, rtol=1e-14)
        assert_allclose(var, alone.running_var, rtol=1e-13)
        assert number == 3


BUFFER = np.arange(36.0).reshape(4, 9)
#: What one rank passes that it refuses, and what it raises.
REFUSED = {
    "dtype": ({"x": np.ones((4, 3), complex)}, TypeError),
    "channels": ({"x": np.ones((4, 2))}, ValueError),
    "mask": ({"mask": np.ones(3, bool)}, ValueError),
    "mask dtype": ({"mask": np.ones(4)}, TypeError),
    "out": ({"out": np.ones((4, 3), np.float32)}, TypeError),
    "overlap": ({"x": BUFFER[:, :3], "out": BUFFER[:, 1:4]}, ValueError),
    "groups": ({"groups": [0, 0, 1, 1]}, ValueError),
}


@pytest.mark.parametrize(("arguments", "kind"), REFUSED.values(), ids=REFUSED)
def test_one_rank_refuses_and_no_layer_has_changed(arguments, kind):
    x = np.random.default_rng(2).normal(size=(4, 3))

    def one(communicator, rank):
        bn = made(communicator=communicator)
        bn(x)
        before, given = state(bn), {"x": x, **(arguments if rank == 1 else {})}
        try:
            bn(given.pop("x"), **given)
        except Exception as error:
            assert_same_state(bn, before)
            bn.backward(x)  # still belongs to the latest pass that succeeded
            bn(x)  # and all goes on
            assert bn.num_batches_tracked == 2
            return error
        return None

    first, second, third = on_ranks(one, 3)
    assert type(second) is kind, second
    for error in (first, third):
        assert isinstance(error, RuntimeError), error
        assert "rank 1 of 3 refused its arguments" in str(error)


def test_ranks_that_disagree_on_channels():
    def one(communicator, rank):
        bn = nc.BatchNorm(3 + rank, communicator=communicator)
        try:
            bn(np.random.default_rng(rank).normal(size=(4, 3 + rank)))
        except ValueError as error:
            assert_same_state(bn, state(nc.BatchNorm(3 + rank)))
            return str(error)

    for error in no_error(on_ranks(one, 2)):
        assert "rank 0 has 3, rank 1 has 4" in error


def test_one_rank_refuses_its_gradient_or_has_lost_its_input():
    x = np.random.default_rng(3).normal(size=(4, 3))

    def one(communicator, rank):
        bn, errors = made(communicator=communicator), []
        for gradient, out in ((np.ones((4, 3 - rank)), None), (x, x.copy() if rank else None)):
            mine = x if out is None else out
            bn(mine, out)
            with pytest.raises((ValueError, RuntimeError)) as caught:
                bn.backward(gradient)
            errors.append(str(caught.value))
        return errors

    (shape, lost), (own_shape, own_lost) = no_error(on_ranks(one, 2))
    assert "dy has shape (4, 2)" in own_shape
    assert "overwrote its input" in own_lost
    assert "rank 1 of 2 refused" in shape
    assert "rank 1 of 2 refused" in lost


@pytest.mark.parametrize("sizes", [(1, 0), (0, 0)])
def test_too_few_values_of_all_ranks(sizes):
    def one(communicator, rank):
        bn = made(communicator=communicator)
        with pytest.raises(ValueError, match=f"together have {sum(sizes)}"):
            bn(np.ones((sizes[rank], 3)))
        return state(bn)

    for found in no_error(on_ranks(one, 2)):
        assert_same_state(made(), found)


def test_options_that_do_not_fit():
    class Alone:
        rank, size = 0, 1

        def allreduce(self, array):
            return array

    for options, error, message in [
        ({"communicator": 3}, TypeError, "rank, size and allreduce"),
        ({"virtual_batch_size": 4}, ValueError, "virtual_batch_size=4 is of the batch of one"),
        ({"single": "skip"}, ValueError, "single='skip' is of the batch of one process"),
    ]:
        with pytest.raises(error, match=message):
            nc.BatchNorm(3, **{"communicator": Alone(), **options})


class Processes:
    """What no copy can be made of."""

    rank, size = 0, 1

    def allreduce(self, array):
        return array

    def __reduce__(self):
        raise TypeError("processes do not pickle")


def test_copies_are_joined_and_pickles_are_not():
    x = np.random.default_rng(4).normal(size=(5, 3))
    bn = made(communicator=Processes())
    bn(x)
    for other in (copy.copy(bn), copy.deepcopy(bn), copy.deepcopy([bn, bn])[1]):
        assert other.communicator is bn.communicator
        assert_same_state(other, state(bn))
    deep = copy.deepcopy(bn)
    deep.gamma[0] = 7.0
    assert bn.gamma[0] == 0.5
    loaded = pickle.loads(pickle.dumps(bn))
    assert loaded.communicator is None
    assert_same_state(loaded, state(bn))
    loaded.communicator = bn.communicator
    assert_array_equal(loaded(x), bn(x))
