"""normcore.keras on the backend that KERAS_BACKEND names: every layer beside Keras's own."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from keras_layers import BACKEND, draw, numpy, ours, pair, slopes, theirs

from support_matrix.scalers import NO, REFUSALS, YES

__all__ = ["LAYERS", "layer_row"]

SHAPE = (5, 3, 4)
#: Each layer, its options, and how it is called.
LAYERS: dict[str, tuple[str, dict[str, object], dict[str, object]]] = {
    "BatchNormalization, in training": ("BatchNormalization", {}, {"training": True}),
    "BatchNormalization, in inference": ("BatchNormalization", {}, {"training": False}),
    "LayerNormalization": ("LayerNormalization", {}, {}),
    "RMSNormalization": ("RMSNormalization", {}, {}),
    "GroupNormalization": ("GroupNormalization", {"groups": 2}, {}),
    "Normalization": ("Normalization", {}, {}),
}


def layers(name: str, policy: str) -> tuple[keras.Layer, keras.Layer]:
    """Return normcore's layer and Keras's, of the same weights."""
    kind, options, _ = LAYERS[name]
    if kind != "Normalization":
        return pair(kind, SHAPE, dtype=policy, **options)
    found = ours.Normalization(dtype=policy), theirs.Normalization(dtype=policy)
    for each in found:
        each.adapt(draw((50, *SHAPE[1:]), seed=3))
    return found


def same(found: object, right: object, where: str, loose: float = 1e-4) -> None:
    """Raise an error for other numbers than those of Keras's layer."""
    if isinstance(found, list):
        for one, other in zip(found, right, strict=True):
            same(one, other, where, loose)
        return
    found, right = (np.asarray(numpy(each), float) for each in (found, right))
    if not np.allclose(found, right, rtol=loose, atol=loose):
        raise AssertionError(f"wrong numbers: {where}")


def dtype_under(name: str, policy: str) -> str:
    """Return the dtype of results under a policy, or that there are none."""
    x, call = draw(SHAPE), LAYERS[name][2]
    layer, other = layers(name, policy)
    try:
        found = layer(x, **call)
    except REFUSALS:
        return NO
    loose = 1e-4 if policy in ("float64", "float32") else 5e-2
    wide = (keras.ops.cast(each, "float32") for each in (found, other(x, **call)))
    same(*wide, f"{name}, {policy}, {BACKEND}", loose)
    return str(keras.backend.standardize_dtype(found.dtype))


def pure(layer: keras.Layer, call: dict[str, object]) -> Callable[..., object]:
    """Return a layer as a function of its input alone."""
    values = [
        [each.value for each in some]
        for some in (layer.trainable_variables, layer.non_trainable_variables)
    ]
    return lambda x: layer.stateless_call(*values, x, **call)[0]


def gradients(layer: keras.Layer, x: np.ndarray, call: dict[str, object]) -> object:
    if BACKEND == "numpy":
        raise NotImplementedError("this backend has no gradients")
    if BACKEND == "jax":
        import jax

        of_x = pure(layer, call)
        return jax.jit(jax.grad(lambda x: (of_x(x) * draw(SHAPE, seed=1)).sum()))(x)
    return slopes(layer, x, draw(SHAPE, seed=1), **call)


def compiled(layer: keras.Layer, x: np.ndarray, call: dict[str, object]) -> object:
    if type(layer).__module__ != ours.__name__:
        return layer(x, **call)
    if BACKEND == "jax":
        import jax

        return jax.jit(pure(layer, call))(x)
    if BACKEND == "torch":
        import torch

        torch._dynamo.reset()
        function = torch.compile(lambda x: layer.call(x, **call), backend="eager")
        return function(torch.tensor(x)).detach()
    raise NotImplementedError("this backend does not compile")


def mapped(layer: keras.Layer, x: np.ndarray, call: dict[str, object]) -> object:
    x = np.stack([x, 2 * x])
    if type(layer).__module__ != ours.__name__:
        return np.stack([numpy(layer(each, **call)) for each in x])
    if BACKEND == "jax":
        import jax

        return jax.vmap(pure(layer, call))(x)
    if BACKEND == "torch":
        import torch

        try:
            return torch.func.vmap(pure(layer, call))(torch.tensor(x)).detach()
        except RuntimeError as error:  # PyTorch's way of saying so
            raise NotImplementedError from error
    raise NotImplementedError("this backend has no vmap")


def masked(layer: keras.Layer, x: np.ndarray, call: dict[str, object]) -> object:
    return layer(x, mask=np.arange(15).reshape(SHAPE[:2]) % 4 > 0, **call)


def saved(layer: keras.Layer, x: np.ndarray, call: dict[str, object]) -> object:
    """Of either layer what the other one becomes of its weights, and of its file."""
    model = keras.Sequential([keras.Input(SHAPE[1:]), layer])
    module = theirs if type(layer).__module__ == ours.__name__ else ours
    config = layer.get_config()
    other = getattr(module, type(layer).__name__).from_config(config)
    counterpart = keras.Sequential([keras.Input(SHAPE[1:]), other])
    with tempfile.TemporaryDirectory() as folder:
        model.save_weights(Path(folder, "model.weights.h5"))
        counterpart.load_weights(Path(folder, "model.weights.h5"))
        model.save(Path(folder, "model.keras"))
        again = keras.saving.load_model(Path(folder, "model.keras"))
    return [each(x, **call) for each in (counterpart.layers[0], again.layers[0])]


#: What is done with each layer, and with Keras's, which has to give the same.
FEATURES = (gradients, compiled, mapped, masked, saved)


def feature(name: str, function: Callable[..., object]) -> str:
    """Return whether a layer does something, having compared results."""
    layer, other = layers(name, "float32")
    x, call = draw(SHAPE), LAYERS[name][2]
    try:
        found = function(layer, x, call)
    except REFUSALS:
        return NO
    same(found, function(other, x, call), f"{name}, {function.__name__}, {BACKEND}")
    return YES


def layer_row(name: str, policies: tuple[str, ...]) -> list[str]:
    """Return one row: the dtype of results under each policy, and what the layer does."""
    return [
        *(dtype_under(name, policy) for policy in policies),
        *(feature(name, function) for function in FEATURES),
    ]
