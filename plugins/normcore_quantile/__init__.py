"""A normcore plugin: features mapped by their quantiles to a uniform or normal distribution."""

from normcore_quantile.function import quantile_transform
from normcore_quantile.transformer import QuantileTransformer

__all__ = ["QuantileTransformer", "quantile_transform"]
