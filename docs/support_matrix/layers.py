"""Layers: every library of arrays, every dtype, and what they do with each."""

from collections.abc import Callable

import numpy as np

import normcore as nc
from support_matrix.inputs import dense, strict, tensor, typed
from support_matrix.scalers import NO, REFUSALS, YES, check, dtype_of

__all__ = ["LAYERS", "LAYER_DTYPES", "LAYER_FEATURES", "LAYER_KINDS", "layer_row"]

X = np.random.default_rng(0).integers(-8, 8, size=(6, 4, 3)).astype(float)
DY = np.random.default_rng(1).integers(-4, 4, size=(6, 4, 3)).astype(float)

LAYERS: dict[str, Callable[..., object]] = {
    "BatchNorm": lambda **params: nc.BatchNorm(4, **params),
    "LayerNorm": lambda **params: nc.LayerNorm(3, **params),
    "RMSNorm": lambda **params: nc.RMSNorm(3, **params),
    "GroupNorm": lambda **params: nc.GroupNorm(2, 4, **params),
    "InstanceNorm": lambda **params: nc.InstanceNorm(4, **params),
}
LAYER_KINDS = {"NumPy": lambda x: x, "PyTorch, on the host": tensor, "array_api_strict": strict}
LAYER_DTYPES = ("float64", "float32", "float16", "bfloat16", "int32", "bool")


def layer_dtype(name: str, kind: str, dtype: str) -> str:
    """Return the dtype of a layer's results, or that there are none."""
    if kind == "array_api_strict" and dtype in ("float16", "bfloat16"):
        return ""
    right = LAYERS[name]()((X > 0).astype(float) if dtype == "bool" else X)
    return dtype_of(
        lambda backend: LAYERS[name](backend=backend)(LAYER_KINDS[kind](typed(X, dtype, 0))),
        right,
        f"{name}, {kind}, {dtype}",
    )


def backward(name: str, x: object, dy: object) -> None:
    layer, right = LAYERS[name](), LAYERS[name]()
    layer(x)
    right(X)
    check(dense(layer.backward(dy)[0]), right.backward(DY)[0], f"{name}, backward")


def evaluation(name: str, x: object, dy: object) -> None:
    layer, right = LAYERS[name](), LAYERS[name]()
    layer(x)
    right(X)
    check(dense(layer.eval()(x)), right.eval()(X), f"{name}, eval")


def into_out(name: str, x: object, dy: object) -> None:
    target = LAYERS[name]()(x)
    result = LAYERS[name]()(x, out=target)
    if result is not target:
        raise AssertionError(f"{name}: out= is not what is returned")
    check(dense(result), LAYERS[name]()(X), f"{name}, out=")


def with_mask(name: str, x: object, dy: object) -> None:
    valid = np.ones(len(X), dtype=bool)
    check(dense(LAYERS[name]()(x, mask=valid)), LAYERS[name]()(X), f"{name}, mask=")


def activated(name: str, x: object, dy: object) -> None:
    right = np.maximum(LAYERS[name]()(X), 0)
    check(dense(LAYERS[name](activation="relu")(x)), right, f"{name}, activation=")


def native(name: str, x: object, dy: object) -> None:
    check(dense(LAYERS[name](precision="native")(x)), LAYERS[name]()(X), f"{name}, native")


LAYER_FEATURES: dict[str, Callable[[str, object, object], None]] = {
    "`backward`": backward,
    "`eval()`": evaluation,
    "`out=`": into_out,
    "`mask=`": with_mask,
    '`activation="relu"`': activated,
    '`precision="native"`': native,
}


def layer_feature(name: str, kind: str, feature: str) -> str:
    """Return whether a layer does something with arrays of a library, having compared results."""
    try:
        LAYER_FEATURES[feature](name, LAYER_KINDS[kind](X), LAYER_KINDS[kind](DY))
    except (*REFUSALS, AttributeError):
        return NO
    return YES


def layer_row(name: str, kind: str) -> list[str]:
    """Return one row: the dtype of results for each dtype, and what the layer does."""
    return [
        *(layer_dtype(name, kind, dtype) for dtype in LAYER_DTYPES),
        *(layer_feature(name, kind, feature) for feature in LAYER_FEATURES),
    ]
