"""ONNX graphs of a chain of operations in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from normcore.package.public_names import __version__

if TYPE_CHECKING:
    import onnx

__all__ = ["Graph"]

# Clip takes doubles from 12 on. IR 7 came with opset 13: runtimes of 2020 and later read both.
OPSET, IR = 13, 7


class Graph:
    """Nodes, each of which takes the result of the one before, and constants.

    Parameters
    ----------
    dtype : NumPy dtype
        Of input and output, float64 or float32; what lies between is float64.
    """

    def __init__(self, dtype: np.dtype) -> None:
        from onnx import TensorProto, helper

        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._double = int(TensorProto.DOUBLE)
        self._stored = helper.np_dtype_to_tensor_dtype(dtype)
        #: The name of the latest result.
        self.latest = "X"
        if self._stored != self._double:
            self.then("Cast", to=self._double)

    def constant(self, name: str, values: np.ndarray | float) -> str:
        """Return the name of a constant of float64."""
        from onnx import numpy_helper

        array = np.ascontiguousarray(values, dtype=np.float64).reshape(np.shape(values))
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def then(self, operator: str, *others: str, **attributes: Any) -> str:
        """Apply an operator to the latest result, and others; return the name of what it gives."""
        self.latest = self.apply(operator, self.latest, *others, **attributes)
        return self.latest

    def apply(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Apply an operator; return the name of what it gives, which is not the latest result."""
        from onnx import helper

        output = f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def clip(self, lower: float, upper: float) -> None:
        """Clip the latest result; NaN, of which Clip may make a bound, stays."""
        before = self.latest
        ends = self.constant("lower", lower), self.constant("upper", upper)
        clipped = self.then("Clip", *ends)
        missing = self.apply("IsNaN", before)
        self.latest = self.apply("Where", missing, before, clipped)

    def model(self, name: str, shape: list[int | None]) -> onnx.ModelProto:
        """Return the model whose output is the latest result, of this shape as its input is."""
        import onnx
        from onnx import helper

        if self._stored != self._double:
            self.then("Cast", to=self._stored)
        self._nodes[-1].output[0] = "Y"
        ends = [helper.make_tensor_value_info(each, self._stored, shape) for each in "XY"]
        graph = helper.make_graph(self._nodes, name, [ends[0]], [ends[1]], self._constants)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR,
            producer_name="normcore",
            producer_version=__version__,
        )
        onnx.checker.check_model(model, full_check=True)
        return model
