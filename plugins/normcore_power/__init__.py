"""A normcore plugin: power transforms that make features more like a normal distribution."""

from normcore_power.function import power_transform
from normcore_power.transformer import PowerTransformer

__all__ = ["PowerTransformer", "power_transform"]
