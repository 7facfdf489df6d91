"""A fitted scaler, or a batch norm in inference, as an ONNX model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from normcore.batchnorm.layer import BatchNorm
from normcore.export.batchnorm_map import batchnorm_map
from normcore.export.column_map import ColumnMap, check_dtype, column_map
from normcore.package.public_names import __version__
from normcore.scaling.scaler import Scaler

if TYPE_CHECKING:
    import onnx

__all__ = ["to_bytes", "to_onnx"]

# Clip takes doubles from 12 on. IR 7 came with opset 13: runtimes of 2020 and later read both.
OPSET, IR = 13, 7


def to_onnx(
    fitted: Scaler | BatchNorm,
    *,
    dtype: str = "float64",
    inverse: bool = False,
    ndim: int = 2,
    name: str = "normcore",
) -> onnx.ModelProto:
    """Return a model of one input, ``X``, and one output, ``Y``.

    Parameters
    ----------
    fitted : AffineScaler or BatchNorm
        A scaler that was fitted to a table, or a layer, whose running statistics are used.
    dtype : {"float64", "float32"}
        Of input and output. The model computes in float64 and rounds once.
    inverse : bool
        Whether to return the inverse of a scaler.
    ndim : int
        Dimensions of the batches of a layer: 2, or 4 for images.
    name : str
        Of the graph.

    Returns
    -------
    onnx.ModelProto
        Of opset 13: Sub, Div, Mul, Add in this order, and Clip.

    Raises
    ------
    TypeError, ValueError
        If the model cannot say what this does.
    """
    kind = check_dtype(dtype, "float64", "float32")
    try:
        import onnx
        from onnx import helper
    except ImportError:
        raise ImportError(
            "export to 'onnx' needs onnx: pip install 'normcore-arrays[onnx]'"
        ) from None
    shape: list[int | None] = [None, None]
    axis, relu = 1, False
    if isinstance(fitted, BatchNorm):
        maps, axis, relu = batchnorm_map(fitted, "onnx", ndim=ndim, inverse=inverse)
        shape = [None] * ndim
    elif ndim != 2:
        raise ValueError(f"ndim={ndim!r} is for layers: a scaler takes tables")
    else:
        maps = column_map(fitted, "onnx", dtype=kind, inverse=inverse)
    shape[axis] = maps.num_features
    stored = helper.np_dtype_to_tensor_dtype(kind)
    graph = _Graph(maps, [1] * (len(shape) - axis - 1), relu=relu, stored=stored)
    whole = helper.make_graph(
        graph.nodes,
        name,
        [helper.make_tensor_value_info("X", stored, shape)],
        [helper.make_tensor_value_info("Y", stored, shape)],
        graph.constants,
    )
    model = helper.make_model(
        whole,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
        producer_name="normcore",
        producer_version=__version__,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def to_bytes(model: onnx.ModelProto) -> bytes:
    """Return what an ``.onnx`` file holds."""
    return bytes(model.SerializeToString())


class _Graph:
    """Nodes, one after another, and the constants they take."""

    def __init__(self, maps: ColumnMap, trailing: list[int], *, relu: bool, stored: int) -> None:
        from onnx import TensorProto

        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._latest = "X"
        double = int(TensorProto.DOUBLE)
        if stored != double:
            self._add("Cast", to=double)
        rows = zip(("Sub", "Div", "Mul", "Add"), ("center", "scale", "gamma", "beta"), strict=True)
        for (operator, name), row in zip(rows, maps.coefficients, strict=True):
            self._add(operator, self._constant(name, row.reshape(-1, *trailing)))
        bounds = (0.0, np.inf) if relu else maps.bounds
        if bounds is not None:
            before = self._latest
            ends = zip(("lower", "upper"), bounds, strict=True)
            self._add("Clip", *(self._constant(name, np.array(end)) for name, end in ends))
            clipped, self._latest = self._latest, before
            self._add("IsNaN")  # of which Clip may make a bound
            self._latest = self._add_to("Where", self._latest, before, clipped)
        if stored != double:
            self._add("Cast", to=stored)
        self.nodes[-1].output[0] = "Y"

    def _constant(self, name: str, values: np.ndarray) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _add(self, operator: str, *others: str, **attributes: int) -> None:
        self._latest = self._add_to(operator, self._latest, *others, **attributes)

    def _add_to(self, operator: str, *inputs: str, **attributes: int) -> str:
        from onnx import helper

        output = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output
