"""A normcore plugin: scaling by the largest absolute value, which keeps zeros zero."""

from normcore_maxabs.scaler import MaxAbsScaler

__all__ = ["MaxAbsScaler"]
