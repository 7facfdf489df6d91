"""Statistics of channels: small, mergeable, immutable in use.

Observing two pieces of data and merging equals observing them together, and the empty statistic
is neutral: a commutative monoid. Streaming, threads, files larger than memory and clusters are
all this one law.
"""

from normcore.statistics.brackets import Brackets, Quantiles
from normcore.statistics.extrema import Extrema
from normcore.statistics.mergeable_quantiles import MergeableQuantiles
from normcore.statistics.moments import Moments
from normcore.statistics.quantile_sketch import QuantileSketch
from normcore.statistics.statistic import Statistic, check_count

__all__ = [
    "Brackets",
    "Extrema",
    "MergeableQuantiles",
    "Moments",
    "QuantileSketch",
    "Quantiles",
    "Statistic",
    "check_count",
]
