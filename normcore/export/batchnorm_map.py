"""The inference of a batch norm layer as the map of its channels."""

from __future__ import annotations

import numpy as np

from normcore.batchnorm.layer import BatchNorm
from normcore.export.column_map import ColumnMap
from normcore.layout.namespace import to_numpy

__all__ = ["batchnorm_map"]


def batchnorm_map(layer: BatchNorm, format: str, *, ndim: int) -> tuple[ColumnMap, int, bool]:
    """Return the map of a layer's channels, their axis, and whether ReLU follows.

    Raises
    ------
    ValueError
        If it has no running statistics, or no channels in batches of so many dimensions.
    """
    if not layer.track_running_stats:
        raise ValueError(
            f"export to {format!r} is the inference of a BatchNorm, and this one has no running "
            "statistics: track_running_stats=False"
        )
    if not -ndim <= layer.axis < ndim:
        raise ValueError(f"this BatchNorm has axis={layer.axis}, and batches of ndim={ndim} do not")
    width = layer.num_features
    vectors = (
        layer.running_mean,
        np.sqrt(to_numpy(layer.running_var) + layer.eps),
        np.ones(width) if layer.gamma is None else layer.gamma,
        np.zeros(width) if layer.beta is None else layer.beta,
    )
    coefficients = np.array([to_numpy(each) for each in vectors], dtype=np.float64)
    return ColumnMap(coefficients, None), layer.axis % ndim, layer.activation == "relu"
