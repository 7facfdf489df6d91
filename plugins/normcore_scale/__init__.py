"""A normcore plugin: scikit-learn's functions that scale an array without keeping a scaler."""

from normcore_scale.functions import maxabs_scale, minmax_scale, robust_scale, scale

__all__ = ["maxabs_scale", "minmax_scale", "robust_scale", "scale"]
