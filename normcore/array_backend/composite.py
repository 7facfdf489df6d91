"""A backend's kernels over an array composed of several views, as if it were one."""

from __future__ import annotations

from collections.abc import Callable

from normcore import layout
from normcore.affine import Affine
from normcore.array_backend import over_views
from normcore.array_backend.abstract import Backend
from normcore.layout.namespace import Array
from normcore.statistics import Moments

__all__ = ["CompositeKernels"]


class CompositeKernels:
    """A backend's required kernels over arrays of several views.

    The compositions of :class:`~normcore.Backend` in their terms hold for the whole.
    """

    normalize: Callable[..., tuple[Array, Moments]] = Backend.normalize
    normalize_backward: Callable[..., tuple[Array, Array, Array]] = Backend.normalize_backward

    def __init__(self, backend: Backend, axis: int) -> None:
        self.backend, self.axis = backend, axis

    def moments(self, x: Array, **options: Array) -> Moments:
        """Return the moments of all views."""
        merge = self.backend.merge
        return over_views.observe(self.backend.moments, x, self.axis, merge=merge, **options)

    def rescale(self, x: Array, affine: Affine, **options: Array) -> Array:
        """Map each view; see :func:`normcore.array_backend.over_views.rescale`."""
        return over_views.rescale(self.backend, x, affine, self.axis, **options)

    def backward_reduce(
        self, dy: Array, x: Array, mean: Array, *, relu_mask: Affine | None, mask: Array
    ) -> tuple[Array, Array]:
        """Return the sums over all views."""
        planes = () if mask is None else (layout.broadcast_plane(mask, x, self.axis, "mask"),)
        sums = []
        for dy_view, x_view, *masks in layout.views(self.axis, dy, x, *planes):
            mask = layout.plane_of(masks[0]) if masks else None
            sums.append(
                self.backend.backward_reduce(dy_view, x_view, mean, relu_mask=relu_mask, mask=mask)
            )
        sum_dy, sum_dy_xmu = (sum(parts) for parts in zip(*sums, strict=True))
        return sum_dy, sum_dy_xmu

    def backward_elemt(
        self,
        dy: Array,
        x: Array,
        *vectors: Array,
        relu_mask: Affine | None,
        mask: Array,
        out: Array,
    ) -> Array:
        """Map each pair of views; see :func:`normcore.array_backend.over_views.elementwise`."""

        def kernel(dy: Array, x: Array, **planes: Array) -> Array:
            return self.backend.backward_elemt(dy, x, *vectors, relu_mask=relu_mask, **planes)

        return over_views.elementwise(kernel, self.axis, dy, x, mask=mask, out=out)
