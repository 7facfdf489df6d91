"""Population statistics of nc.BatchNorm layers: pooled, or by the paper's Algorithm 2."""

from __future__ import annotations

import numpy as np
import pytest
from batchnorm_examples import assert_same_state, state
from numpy.testing import assert_allclose, assert_array_equal

import normcore as nc


@pytest.fixture
def batches():
    rng = np.random.default_rng(0)
    return [rng.normal(step, 1 + step, size=(size, 2)) for step, size in enumerate((5, 3, 8))]


@pytest.mark.parametrize("ddof", [0, 1])
def test_pooled_statistics_are_those_of_all_samples(on, batches, ddof):
    first, second = on.BatchNorm(2, ddof=ddof), on.BatchNorm(2, momentum=None).eval()
    first(batches[2])  # running statistics of before are forgotten
    before = state(first)
    outputs = []
    with nc.population_statistics([first, second, first]):
        for batch in batches:
            outputs.append(first(batch))
            second(outputs[-1] ** 2)
            assert_array_equal(first.running_mean, before[2])
    for bn, seen in ((first, batches), (second, [each**2 for each in outputs])):
        samples = np.concatenate(seen)
        assert_allclose(bn.running_mean, samples.mean(0), rtol=1e-13)
        assert_allclose(bn.running_var, samples.var(0, ddof=bn.ddof), rtol=1e-13)
        assert bn.num_batches_tracked == 3
    assert first.training
    assert not second.training
    first(batches[0])  # and goes on as before
    assert first.num_batches_tracked == 4


def test_algorithm2_by_hand(on):
    bn = on.BatchNorm(1)
    with nc.population_statistics([bn], method="algorithm2"):
        bn(np.array([[1.0], [3.0]]))  # mean 2, unbiased variance 2
        bn(np.array([[4.0], [8.0]]))  # mean 6, unbiased variance 8
        bn(np.array([[90.0], [80.0]]), update_stats=False)
    assert_array_equal([bn.running_mean[0], bn.running_var[0]], [4.0, 5.0])
    assert bn.num_batches_tracked == 2


def test_algorithm2_refuses_batches_of_other_sizes(on, batches):
    bn = on.BatchNorm(2).eval()
    before = state(bn)
    with (
        pytest.raises(ValueError, match=r"channel 0 has 3 values after 5.*pooled"),
        nc.population_statistics([bn], method="algorithm2"),
    ):
        list(map(bn, batches))
    assert_same_state(bn, before)


@pytest.mark.parametrize("method", ["pooled", "algorithm2"])
def test_nothing_has_changed_after_an_exception(on, batches, method):
    layers = on.BatchNorm(2), on.BatchNorm(2).eval()
    layers[0](batches[0])
    before = [state(each) for each in layers]

    def fail():
        with nc.population_statistics(layers, method=method):
            for each in layers:
                each(batches[1])
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    for each, expected in zip(layers, before, strict=True):
        assert_same_state(each, expected)
    layers[0](batches[0])
    assert layers[0].num_batches_tracked == 2


def test_virtual_batches_and_masks_count(on, batches):
    bn, masked = on.BatchNorm(2, virtual_batch_size=4), on.BatchNorm(2)
    mask = np.arange(8) > 2
    with nc.population_statistics([bn, masked]):
        bn(batches[2])
        masked(batches[2], mask=mask)
    assert bn.num_batches_tracked == 2
    assert_allclose(bn.running_var, batches[2].var(0, ddof=1), rtol=1e-13)
    assert_allclose(masked.running_var, batches[2][mask].var(0, ddof=1), rtol=1e-13)


def test_frozen_and_unreached_layers_stay(on, batches):
    reached, frozen, unreached = on.BatchNorm(2), on.BatchNorm(2).freeze(), on.BatchNorm(2)
    before = state(frozen), state(unreached)
    with nc.population_statistics([reached, frozen, unreached]):
        assert_array_equal(frozen(reached(batches[0]) * 0), np.zeros((5, 2)))
    assert reached.num_batches_tracked == 1
    assert_same_state(frozen, before[0])
    assert_same_state(unreached, before[1])


def test_bad_arguments():
    bn = nc.BatchNorm(2)
    for layers, options, error, message in [
        ([bn], {"method": "average"}, ValueError, "method must be one of 'pooled', 'algorithm2'"),
        ([bn, None], {}, TypeError, r"normcore\.BatchNorm, but one is None"),
        ([bn, nc.BatchNorm(2, track_running_stats=False)], {}, ValueError, "no running stat"),
        ([bn], {}, ValueError, "no batch reached"),
    ]:
        with pytest.raises(error, match=message), nc.population_statistics(layers, **options):
            pass
        assert bn._population is None
    with (
        pytest.raises(ValueError, match="already"),
        nc.population_statistics([bn]),
        nc.population_statistics([bn]),
    ):
        pass
    assert bn._population is None
