"""Arrays as ``(N, C, S)`` views, and what results are written to."""

from normcore.package.requirements import check_libraries

check_libraries()  # whichever of normcore's modules is imported first, it comes by here

from normcore.layout.array_views import (  # noqa: E402
    as_single_views,
    broadcast_plane,
    is_single_view,
    plane_of,
    positive_axis,
    single_view_out,
    views,
)
from normcore.layout.namespace import as_array, is_strided  # noqa: E402

__all__ = [
    "as_array",
    "as_single_views",
    "broadcast_plane",
    "is_single_view",
    "is_strided",
    "plane_of",
    "positive_axis",
    "single_view_out",
    "views",
]
