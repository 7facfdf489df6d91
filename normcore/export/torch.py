"""A fitted scaler as a module of PyTorch."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from normcore.export.column_map import check_dtype, column_map
from normcore.export.torch_layers import LAYERS, Layer, as_torch_layer
from normcore.scaling.scaler import Scaler

if TYPE_CHECKING:
    import torch

__all__ = ["to_bytes", "to_torch"]


def to_torch(
    fitted: Scaler | Layer, *, dims: int | None = None, dtype: str | None = None
) -> torch.nn.Module:
    """Return a module whose ``forward`` transforms, and whose ``inverse`` undoes it.

    Parameters
    ----------
    fitted : AffineScaler, BatchNorm, LayerNorm, RMSNorm or GroupNorm
        A scaler that was fitted to a table, or a layer.
    dims : {1, 2, 3}, optional
        Of positions, for a BatchNorm: see :meth:`normcore.BatchNorm.to_torch`.
    dtype : {"float64", "float32", "float16"}, optional
        Of a layer's parameters, by default PyTorch's default. Of a scaler: of the tables that a
        file takes, by default float64; the module itself takes any.

    Returns
    -------
    torch.nn.Module
        Of a scaler: with buffers of float64, which stay that where a model changes its dtype.
        Floats keep their dtype, of which the result is rounded once; others become float64.
        It can be compiled, exported, scripted and differentiated. Of a layer: PyTorch's.
    """
    kind = None if dtype is None else check_dtype(dtype, "float64", "float32", "float16").name
    try:
        import torch
    except ImportError:
        raise ImportError(
            "export to 'torch' needs PyTorch: pip install 'normcore-arrays[torch]'"
        ) from None
    if isinstance(fitted, LAYERS):
        return as_torch_layer(fitted, dims, None if kind is None else getattr(torch, kind))
    if dims is not None:
        raise ValueError(f"dims={dims!r} is for layers: a scaler takes tables")
    from normcore.export.torch_module import ColumnMapModule

    dtypes = (np.float64, np.float32, np.float16)
    forward = [column_map(fitted, "torch", dtype=each) for each in dtypes]
    reason = ""
    try:
        back = [column_map(fitted, "torch", dtype=each, inverse=True) for each in dtypes]
    except ValueError as error:  # there is none
        back, reason = [], str(error)
    module = ColumnMapModule(forward, back, reason)
    module.file_dtype = getattr(torch, kind or "float64")
    return module


def to_bytes(module: Any) -> bytes:
    """Return what a ``.pt2`` file holds, which :func:`torch.export.load` reads."""
    import torch

    if not hasattr(module, "file_dtype"):
        raise TypeError("files hold scalers; save the state of a layer with torch.save")
    rows = torch.export.Dim("rows", min=1)
    example = torch.zeros((2, module.coefficients.shape[2]), dtype=module.file_dtype)
    program = torch.export.export(module, (example,), dynamic_shapes=({0: rows},))
    held = io.BytesIO()
    torch.export.save(program, held)
    return held.getvalue()
