"""A normcore plugin: scaling by the largest absolute value, which keeps zeros zero."""

from normcore_maxabs.scaler import MaxAbsScaler, maxabs_scale

__all__ = ["MaxAbsScaler", "maxabs_scale"]
