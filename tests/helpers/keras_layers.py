"""Layers of normcore.keras beside Keras's own, on the backend that KERAS_BACKEND names."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as theirs
from keras import ops

import normcore.keras as ours

__all__ = ["BACKEND", "draw", "needs_gradients", "numpy", "pair", "slopes"]

BACKEND = keras.backend.backend()
needs_gradients = pytest.mark.skipif(BACKEND == "numpy", reason="this backend has no gradients")


def draw(shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).normal(1.0, 2.0, shape).astype(dtype)


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def pair(kind, shape, seed=0, **options):
    """Return normcore's layer and Keras's, with the same weights."""
    made = [getattr(each, kind)(**options) for each in (ours, theirs)]
    for layer in made:
        layer.build((None, *shape[1:]))
    weights = [draw(each.shape, seed=seed) ** 2 + 0.1 for each in made[1].weights]
    for layer in made:
        layer.set_weights(weights)
    return made


def slopes(layer, x, dy, **call):
    """Return the gradients of x and of the weights that train, of the sum of y * dy."""
    variables = layer.trainable_variables
    if BACKEND == "torch":
        import torch

        x = torch.tensor(x, requires_grad=True)
        loss = (layer(x, **call) * torch.tensor(dy)).sum()
        given = [x, *(each.value for each in variables)]
        return [numpy(each) for each in torch.autograd.grad(loss, given)]
    import jax

    def loss(x, trained):
        others = [each.value for each in layer.non_trainable_variables]
        return (layer.stateless_call(trained, others, x, **call)[0] * dy).sum()

    found, of_weights = jax.grad(loss, (0, 1))(x, [each.value for each in variables])
    return [np.asarray(found), *map(np.asarray, of_weights)]
