"""Arrays as ``(N, C, S)`` views, and what results are written to."""

from normcore.layout.array_views import (
    in_one_view,
    is_one_view,
    of_positions,
    plane,
    positive_axis,
    views,
    with_result,
)
from normcore.layout.namespace import as_array, is_strided

__all__ = [
    "as_array",
    "in_one_view",
    "is_one_view",
    "is_strided",
    "of_positions",
    "plane",
    "positive_axis",
    "views",
    "with_result",
]
