"""A fitted scaler, or a layer in inference, as an ONNX model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normcore.batchnorm.layer import BatchNorm
from normcore.export.batchnorm_map import batchnorm_map
from normcore.export.column_map import check_dtype, column_map
from normcore.export.onnx_graph import Graph
from normcore.layernorm import LayerNorm, RMSNorm
from normcore.scaling.scaler import Scaler

if TYPE_CHECKING:
    import onnx

__all__ = ["to_bytes", "to_onnx"]


def to_onnx(
    fitted: Scaler | BatchNorm | LayerNorm,
    *,
    dtype: str = "float64",
    inverse: bool = False,
    ndim: int | None = None,
    name: str = "normcore",
) -> onnx.ModelProto:
    """Return a model of one input, ``X``, and one output, ``Y``.

    Parameters
    ----------
    fitted : AffineScaler, BatchNorm, LayerNorm or RMSNorm
        A scaler that was fitted to a table, or a layer; of a BatchNorm the running statistics are
        used.
    dtype : {"float64", "float32"}
        Of input and output. The model computes in float64 and rounds once.
    inverse : bool
        Whether to return the inverse of a scaler.
    ndim : int, optional
        Dimensions of the batches of a layer, as 4 for images; by default one more than those of
        a sample of a LayerNorm or RMSNorm, and 2 of a BatchNorm.
    name : str
        Of the graph.

    Returns
    -------
    onnx.ModelProto
        Of opset 13. For scalers and BatchNorm: Sub, Div, Mul, Add in this order, and Clip.

    Raises
    ------
    TypeError, ValueError
        If the model cannot say what this does.
    """
    kind = check_dtype(dtype, "float64", "float32")
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise ImportError(
            "export to 'onnx' needs onnx: pip install 'normcore-arrays[onnx]'"
        ) from None
    if inverse and not isinstance(fitted, Scaler):
        raise ValueError(f"inverse=True is for scalers, not for a {type(fitted).__name__}")
    if isinstance(fitted, BatchNorm | LayerNorm) and fitted.precision == "native":
        raise ValueError(
            f"export to 'onnx' computes in float64, and this {type(fitted).__name__} has "
            "precision='native'"
        )
    if isinstance(fitted, LayerNorm):
        own = len(fitted.normalized_shape)
        return _of_rows(fitted, kind, _num_axes(ndim, own, own + 1), name)
    if isinstance(fitted, BatchNorm):
        ndim = _num_axes(ndim, 2, 2)
        maps, axis, relu = batchnorm_map(fitted, "onnx", ndim=ndim)
        bounds = (0.0, np.inf) if relu else None
    elif ndim is not None:
        raise ValueError(f"ndim={ndim!r} is for layers: a scaler takes tables")
    else:
        maps, axis, ndim = column_map(fitted, "onnx", dtype=kind, inverse=inverse), 1, 2
        bounds = maps.bounds
    graph = Graph(kind)
    rows = zip(("Sub", "Div", "Mul", "Add"), ("center", "scale", "gamma", "beta"), strict=True)
    for (operator, word), row in zip(rows, maps.coefficients, strict=True):
        graph.then(operator, graph.constant(word, row.reshape(-1, *[1] * (ndim - axis - 1))))
    if bounds is not None:
        graph.clip(*bounds)
    shape: list[int | None] = [None] * ndim
    shape[axis] = maps.num_features
    return graph.model(name, shape)


def to_bytes(model: onnx.ModelProto) -> bytes:
    """Return what an ``.onnx`` file holds."""
    return bytes(model.SerializeToString())


def _num_axes(ndim: int | None, least: int, by_default: int) -> int:
    """Return how many dimensions the batches of a layer have."""
    if ndim is None:
        return by_default
    if isinstance(ndim, bool) or not isinstance(ndim, int) or ndim < least:
        raise ValueError(f"ndim must be an integer of {least} or more, got {ndim!r}")
    return ndim


def _of_rows(layer: LayerNorm, dtype: np.dtype, ndim: int, name: str) -> onnx.ModelProto:
    """Return the model of a layer that normalizes each sample by itself."""
    own = list(layer.normalized_shape)
    axes = list(range(-len(own), 0))
    graph = Graph(dtype)
    if not isinstance(layer, RMSNorm):
        x = graph.latest
        graph.latest = graph.apply("Sub", x, graph.apply("ReduceMean", x, axes=axes))
    deviation = graph.latest
    graph.then("Mul", deviation)
    graph.then("ReduceMean", axes=axes)
    graph.then("Add", graph.constant("eps", layer.eps))
    graph.latest = graph.apply("Div", deviation, graph.then("Sqrt"))
    if layer.gamma is not None:
        graph.then("Mul", graph.constant("gamma", layer.gamma + layer.gamma_offset))
    if layer.beta is not None:
        graph.then("Add", graph.constant("beta", layer.beta))
    others: list[int | None] = [None] * (ndim - len(own))
    return graph.model(name, [*others, *own])
