"""The conformance kit must be able to fail: faults that it notices, one by one."""

from __future__ import annotations

import backend_faults
import pytest
import scaler_faults
from faulty import Faulty, check

import normcore as nc
from normcore.testing import BackendConformance, ScalerConformance
from normcore.testing.arrays import ArrayLaws
from normcore.testing.scaler_use import ScalerUse

#: What a law that notices raises; one that is skipped does not.
NOTICED = (Exception, pytest.fail.Exception)


def backend_kit(backend):
    return type("Kit", (BackendConformance,), {"backend": backend})()


def scaler_kit(scaler):
    return type("Kit", (ScalerConformance,), {"scaler": scaler, "registered": False})()


def laws_of(table):
    return sorted(set(table.values()), key=str)


@pytest.mark.parametrize("fault", backend_faults.FAULTS, ids=lambda fault: fault.__name__)
def test_a_faulty_backend_does_not_conform(fault):
    with pytest.raises(NOTICED):
        check(backend_kit(fault()), *backend_faults.FAULTS[fault])


@pytest.mark.parametrize("law", laws_of(backend_faults.FAULTS), ids=lambda law: law[0])
def test_without_the_fault_it_conforms(law):
    check(backend_kit(Faulty()), *law)


@pytest.mark.parametrize("fault", scaler_faults.FAULTS, ids=lambda fault: fault.__name__)
def test_a_faulty_scaler_does_not_conform(fault):
    with pytest.raises(NOTICED):
        check(scaler_kit(fault), *scaler_faults.FAULTS[fault])


@pytest.mark.parametrize("law", laws_of(scaler_faults.FAULTS), ids=lambda law: law[0])
def test_good_scalers_conform(law):
    good = [scaler_faults.Good, scaler_faults.GoodRoot]
    if law[0] in ("test_clip_is_used_where_it_is_a_parameter",):
        good.remove(scaler_faults.GoodRoot)
    if law[0] == "test_weights_repeat_rows":
        good = [nc.StandardScaler]
    for scaler in good:
        check(scaler_kit(scaler), *law)


def test_laws_of_arrays_and_of_use_have_a_fault_each():
    noticed = {law[0] for law in laws_of(backend_faults.FAULTS)}
    assert {each for each in vars(ArrayLaws) if each.startswith("test_")} <= noticed
    noticed = {law[0] for law in laws_of(scaler_faults.FAULTS)}
    assert {each for each in vars(ScalerUse) if each.startswith("test_")} - noticed == {
        "test_scikit_learn_clones_it",  # as parameters that are kept say
        "test_any_number_of_threads_gives_the_same_bits",  # kernels alone could break that
    }
