"""Exports: every scaler and layer in every format, run and compared with what was exported.

The formats are run by what the tests run them with: `tests/helpers/exported.py`.
"""

from collections.abc import Callable

import numpy as np
from exported import run, run_model

import normcore as nc
from support_matrix.inputs import VALUES, dense, tensor, typed
from support_matrix.layers import LAYERS, X
from support_matrix.scalers import NO, REFUSALS, SCALERS, check, make

__all__ = ["EXPORTED", "FORMATS", "layer_exports", "scaler_exports"]

FORMATS = ("sql", "c", "onnx", "torch", "polars", "sklearn")

DTYPES = ("float64", "float32", "float16", "bfloat16")
#: Formats of arithmetic of their own: docs/export.md says how far apart results may be.
APART = ("sklearn",)

#: What is exported: scalers, also with parameters that change the form of their map.
EXPORTED: dict[str, Callable[[], object]] = {
    **{name: lambda name=name: make(name, "NumPy, C order") for name in SCALERS},
    '`PercentileScaler(clip="soft")`': lambda: nc.PercentileScaler(clip="soft"),
    "`MinMaxScaler(clip=True)`": lambda: nc.MinMaxScaler(clip=True),
    "any scaler with `axis=None`": lambda: nc.StandardScaler(axis=None),
}


def of_table(format: str, scaler: object, x: np.ndarray, inverse: bool) -> np.ndarray:
    """Return what a form of a scaler makes of a table of any dtype."""
    if format == "torch":
        module = scaler.export("torch")
        return dense((module.inverse if inverse else module)(tensor(x)))
    if format == "c" and x.dtype.name not in ("float64", "float32"):
        raise ValueError("the file has functions of double and of float")
    return run(format, scaler, x, inverse)


def same(found: np.ndarray, right: np.ndarray, format: str, where: str) -> bool:
    """Return whether results are of the dtype of `transform`, having compared the numbers."""
    if found.dtype != right.dtype:
        return False
    if format in APART:
        check(found, right.astype(float), where)
    elif not np.array_equal(found, right):
        raise AssertionError(f"other bits: {where}")
    return True


def scaler_cell(name: str, format: str, *, inverse: bool) -> str:
    """Return the dtypes that one form of a scaler takes, or that there is none."""
    taken = []
    for dtype in DTYPES:
        x = typed(VALUES, dtype, 0)
        scaler = EXPORTED[name]().fit(x)
        try:
            if inverse:
                x = scaler.transform(x)
            right = scaler.inverse_transform(x) if inverse else scaler.transform(x)
            found = of_table(format, scaler, x, inverse)
        except (*REFUSALS, AttributeError):
            continue
        if same(found, right, format, f"{name}, {format}, {dtype}, {inverse=}"):
            taken.append(dtype)
    return ", ".join(taken) or NO


def scaler_exports(*, inverse: bool = False) -> dict[str, list[str]]:
    """Return the rows of a table: for each scaler, the dtypes that each of its forms takes."""
    return {
        name: [scaler_cell(name, format, inverse=inverse) for format in FORMATS]
        for name in EXPORTED
    }


def exported_layer(name: str, format: str, layer: object, x: np.ndarray) -> np.ndarray:
    """Return what a form of a layer makes of a batch."""
    if format == "onnx":
        return run_model(layer.export("onnx", dtype=x.dtype.name, ndim=x.ndim), x)
    if format != "torch":
        raise AssertionError(f"nothing runs {layer.export(format)!r}")
    options = {"dims": 1} if name == "BatchNorm" else {}
    module = layer.export("torch", dtype=x.dtype.name, **options).eval()
    return dense(module(tensor(x)))


def layer_cell(name: str, format: str) -> str:
    """Return the dtypes that one form of a layer takes, or that there is none."""
    taken = []
    for dtype in DTYPES:
        x = typed(X, dtype, 0)
        layer = LAYERS[name]()
        layer(x)
        right = (layer.eval() if hasattr(layer, "eval") else layer)(x)
        try:
            found = exported_layer(name, format, layer, x)
        except (*REFUSALS, AttributeError):
            continue
        if found.dtype == right.dtype:
            check(found, right.astype(float), f"{name}, {format}, {dtype}")
            taken.append(dtype)
    return ", ".join(taken) or NO


def layer_exports() -> dict[str, list[str]]:
    """Return the rows of a table: for each layer, the dtypes that each of its forms takes."""
    return {name: [layer_cell(name, format) for format in FORMATS] for name in LAYERS}
