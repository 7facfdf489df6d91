"""Every scaler on every array library, fitted with one and used with another."""

import numpy as np
import pytest
from scalers import SCALERS

import normcore as nc

strict = pytest.importorskip("array_api_strict")
torch = pytest.importorskip("torch")

LIBRARIES = {
    "numpy": np.asarray,
    "torch": torch.from_numpy,
    "strict": strict.asarray,
    "strict on another device": lambda x: strict.asarray(x, device=strict.Device("device1")),
}
each_scaler = pytest.mark.parametrize("cls", [*SCALERS, nc.MaxAbsScaler])
each_library = pytest.mark.parametrize("library", LIBRARIES)
X = np.random.default_rng(1).normal(5, 3, size=(40, 4))


def on_host(array):
    if type(array).__module__.startswith("array_api_strict"):
        array = array.to_device(strict.Device("CPU_DEVICE"))
    return np.asarray(array) if isinstance(array, np.ndarray) else np.from_dlpack(array)


@each_scaler
@each_library
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_results_are_of_the_kind_and_device_of_their_input(cls, library, dtype):
    given = LIBRARIES[library](X.astype(dtype))
    scaler = cls().fit(given)
    assert type(scaler.scale_) is type(given)
    for method in ("transform", "inverse_transform"):
        result = getattr(scaler, method)(given)
        assert type(result) is type(given)
        assert str(result.dtype).rpartition(".")[2] == np.dtype(dtype).name
        assert getattr(result, "device", None) == getattr(given, "device", None)
        expected = getattr(cls().fit(X.astype(dtype)), method)(X.astype(dtype))
        np.testing.assert_array_equal(on_host(result), expected)


@each_scaler
@pytest.mark.parametrize("fitted", LIBRARIES)
@each_library
@pytest.mark.parametrize("dispatch", [False, True])
def test_fitted_with_one_used_with_another(cls, fitted, library, dispatch, monkeypatch):
    if dispatch:  # scikit-learn's own switch needs a variable set before SciPy is imported
        config = {"array_api_dispatch": True}
        monkeypatch.setattr("normcore.scaling.estimator._get_config", lambda: config)
    given = LIBRARIES[library](X)
    scaler = cls().fit(LIBRARIES[fitted](X))
    if dispatch and library == "numpy" != fitted:
        # What scikit-learn's own check of estimators demands.
        with pytest.raises(ValueError, match=r"transform\(\) must use the same namespace"):
            scaler.transform(given)
        return
    result = scaler.transform(given)
    assert type(result) is type(given)
    assert getattr(result, "device", None) == getattr(given, "device", None)
    np.testing.assert_array_equal(on_host(result), cls().fit_transform(X))


@pytest.mark.parametrize("cls", [nc.StandardScaler, nc.MinMaxScaler, nc.MaxAbsScaler])
@pytest.mark.parametrize("library", ["torch", "strict"])
def test_streams_and_weights_of_mixed_libraries(cls, library):
    other = LIBRARIES[library]
    scaler = cls().partial_fit(X[:10]).partial_fit(other(X[10:25])).partial_fit(X[25:])
    whole = cls().fit(X)
    np.testing.assert_allclose(on_host(scaler.scale_), whole.scale_, rtol=1e-15)
    if cls is nc.StandardScaler:
        weights = np.arange(40.0)
        mine = cls().fit(other(X), sample_weight=weights).mean_
        theirs = cls().fit(other(X), sample_weight=other(weights)).mean_
        expected = cls().fit(X, sample_weight=weights).mean_
        np.testing.assert_array_equal(on_host(mine), expected)
        np.testing.assert_array_equal(on_host(theirs), expected)
