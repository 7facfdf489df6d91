"""A normcore plugin: percentiles, or median and deviation, mapped to a range, and what to clip."""

from normcore_percentile.scaler import PercentileScaler

__all__ = ["PercentileScaler"]
