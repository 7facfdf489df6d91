"""The choice of a precision: argument, context, and what it leaves alone."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable

import numpy as np
import pytest
from normcore_cpu.native import NativeCpuBackend

import normcore as nc
from normcore.array_backend.reference import ReferenceBackend
from normcore.layout.namespace import Array

F = nc.functional
RNG = np.random.default_rng(0)
X = (RNG.normal(size=(33, 40)) * 3 + 50).astype(np.float32)
DY = RNG.normal(size=X.shape).astype(np.float32)
GAMMA, BETA, MEAN = RNG.normal(size=(3, 40))
VAR = MEAN**2 + 1
LIMITS = {"r_max": 2.0, "d_max": 1.0}


def same(one: object, other: object) -> bool:
    """Whether results have the same bits."""
    if isinstance(one, tuple | list):
        return all(map(same, one, other))
    if isinstance(one, nc.Moments):
        return same(one.parts, other.parts)
    return one.tobytes() == other.tobytes()


def passes(x: Array = X, dy: Array = DY) -> dict[str, Callable[..., object]]:
    """Every function of layers, on some arrays."""
    exact = {"precision": "exact"}
    batch = F.batch_norm(x, GAMMA, BETA, **exact)[1]
    rows = F.layer_norm(x, GAMMA, BETA, **exact)[1]
    groups = F.group_norm(x, 8, GAMMA, BETA, **exact)[1]
    images, of_images = (each.reshape(11, 40, 3) for each in (x, dy))
    channels = F.instance_norm(images, GAMMA, BETA, **exact)[1]
    return {
        "batch_norm": lambda **p: F.batch_norm(x, GAMMA, BETA, **p),
        "batch_norm_backward": lambda **p: F.batch_norm_backward(dy, x, batch, GAMMA, **p),
        "batch_norm_inference": lambda **p: F.batch_norm_inference(x, MEAN, VAR, GAMMA, BETA, **p),
        "batch_renorm": lambda **p: F.batch_renorm(x, MEAN, VAR, GAMMA, BETA, **LIMITS, **p),
        "batch_renorm_backward": lambda **p: F.batch_renorm_backward(
            dy, x, batch, MEAN, VAR, GAMMA, BETA, **LIMITS, **p
        ),
        "layer_norm": lambda **p: F.layer_norm(x, GAMMA, BETA, **p),
        "layer_norm_backward": lambda **p: F.layer_norm_backward(dy, x, rows, GAMMA, **p),
        "rms_norm": lambda **p: F.rms_norm(x, GAMMA, **p),
        "rms_norm_backward": lambda **p: F.rms_norm_backward(dy, x, rows, GAMMA, **p),
        "group_norm": lambda **p: F.group_norm(x, 8, GAMMA, BETA, **p),
        "group_norm_backward": lambda **p: F.group_norm_backward(dy, x, groups, 8, GAMMA, **p),
        "instance_norm": lambda **p: F.instance_norm(images, GAMMA, BETA, **p),
        "instance_norm_backward": lambda **p: F.instance_norm_backward(
            of_images, images, channels, GAMMA, **p
        ),
    }


LAYERS = {
    "BatchNorm": lambda **p: nc.BatchNorm(40, **p),
    "BatchNorm renormalized": lambda **p: nc.BatchNorm(40, **LIMITS, **p),
    "LayerNorm": lambda **p: nc.LayerNorm(40, **p),
    "RMSNorm": lambda **p: nc.RMSNorm(40, **p),
    "GroupNorm": lambda **p: nc.GroupNorm(8, 40, **p),
    "InstanceNorm": lambda **p: nc.InstanceNorm(40, track_running_stats=True, **p),
}


@pytest.mark.parametrize("name", passes())
def test_functions_take_the_precision_of_the_argument_or_else_of_the_context(name) -> None:
    function = passes()[name]
    exact, native = function(precision="exact"), function(precision="native")
    assert same(function(), exact)
    assert not same(native, exact)
    with nc.use_precision("native") as chosen:
        assert chosen == "native"
        assert same(function(), native)
        assert same(function(precision="exact"), exact)
        with nc.use_precision("exact"):
            assert same(function(), exact)
            assert same(function(precision="native"), native)
        assert same(function(), native)
    assert same(function(), exact)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("training", [True, False])
def test_layers_take_the_precision_of_the_argument_or_else_of_the_context(name, training) -> None:
    def results(layer) -> tuple[object, ...]:
        if not training and hasattr(layer, "eval"):
            layer.eval()
        return layer(X.reshape(11, 40, 3) if "Instance" in name else X), layer

    def gradients(layer, y) -> tuple[object, ...]:
        return layer.backward(DY.reshape(y.shape))

    exact, exact_layer = results(LAYERS[name]())
    native, native_layer = results(LAYERS[name](precision="native"))
    with nc.use_precision("native"):
        y, layer = results(LAYERS[name]())
        exact_again, _ = results(LAYERS[name](precision="exact"))
    assert same(y, native)
    assert same(exact_again, exact)
    # A backward pass outside of the block follows its forward pass.
    expected = gradients(native_layer, native)
    assert same(gradients(layer, y)[0], expected[0])
    assert not same(gradients(exact_layer, exact)[0], expected[0])


@pytest.mark.parametrize("name", LAYERS)
def test_layers_keep_their_precision_when_they_are_copied(name) -> None:
    layer = LAYERS[name](precision="native")
    for each in (pickle.loads(pickle.dumps(layer)), copy.copy(layer), copy.deepcopy(layer)):
        assert each.precision == "native"
    assert "precision='native'" in repr(layer)
    assert "precision" not in repr(LAYERS[name]())


@pytest.mark.parametrize("given", ["fast", "Native", "", 32, True])
def test_other_precisions_are_refused(given) -> None:
    message = "precision must be one of .*'exact', 'native', got"
    for function in passes().values():
        with pytest.raises(ValueError, match=message):
            function(precision=given)
    for make in LAYERS.values():
        with pytest.raises(ValueError, match=message):
            make(precision=given)
    with pytest.raises(ValueError, match=message), nc.use_precision(given):
        pass


def test_a_context_names_a_precision() -> None:
    with pytest.raises(ValueError, match="precision must be one of"), nc.use_precision(None):
        pass


def test_contexts_end_with_errors_and_hold_for_one_thread() -> None:
    exact = F.batch_norm(X)[0]
    with pytest.raises(ZeroDivisionError), nc.use_precision("native"):
        raise ZeroDivisionError
    assert same(F.batch_norm(X)[0], exact)
    found = []
    with nc.use_precision("native"):
        thread = threading.Thread(target=lambda: found.append(F.batch_norm(X)[0]))
        thread.start()
        thread.join()
    assert same(found[0], exact)


def test_scalers_and_statistics_are_exact() -> None:
    def results() -> tuple[object, ...]:
        scaled = nc.StandardScaler().fit_transform(X), nc.MinMaxScaler().fit_transform(X)
        return (*scaled, F.moments(X, channel_axis=1))

    exact = results()
    with nc.use_precision("native"):
        assert same(results(), exact)


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_what_is_not_float32_is_computed_exactly(dtype) -> None:
    for function in passes(X.astype(dtype), DY.astype(dtype)).values():
        assert same(function(precision="native"), function(precision="exact"))


def test_integers_are_normalized_exactly() -> None:
    x = RNG.integers(-9, 9, size=X.shape)
    assert same(F.batch_norm(x, precision="native"), F.batch_norm(x, precision="exact"))


@pytest.mark.parametrize("options", [{"activation": "relu"}, {"mask": RNG.random(33) < 0.7}])
def test_masks_and_activations_are_exact(options) -> None:
    results = [
        (
            F.batch_norm(X, GAMMA, BETA, precision=each, **options),
            F.batch_norm_backward(
                DY, X, F.batch_norm(X, **options)[1], GAMMA, BETA, precision=each, **options
            ),
        )
        for each in ("exact", "native")
    ]
    assert same(*results)


def test_a_backend_without_native_kernels_computes_exactly() -> None:
    backend = ReferenceBackend()
    assert backend.native is None
    for function in passes().values():
        exact = function(backend=backend)
        with nc.use_precision("native"):
            assert same(function(backend=backend), exact)
        assert same(function(backend=backend, precision="native"), exact)


def test_a_native_backend_is_its_own() -> None:
    backend = nc.get_backend("cpu").native
    assert isinstance(backend, NativeCpuBackend)
    assert backend.native is backend
    assert nc.get_backend("cpu").native is backend
    assert type(pickle.loads(pickle.dumps(backend))) is NativeCpuBackend
