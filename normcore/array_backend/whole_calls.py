"""Functions of a caller's own arrays, for a backend that has a shorter way to them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

import numpy as np

from normcore.affine import Affine
from normcore.layout.namespace import Array
from normcore.statistics import Extrema, Moments

__all__ = ["WholeCalls"]


class WholeCalls(Protocol):
    """What a backend may have beside its kernels: whole functions, without checks and views.

    Arguments are as the caller gave them, and results the caller's kind of array. None means that
    nothing was done: the kernels are to be called as always, and errors to be found. The results
    have the same bits.
    """

    def batch_norm(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        axis: int,
        eps: float,
        out: Array,
        activation: str | None = None,
        mask: Array = None,
    ) -> tuple[Array, Moments] | None:
        """Do what `functional.batch_norm` does."""

    def batch_norm_updating(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        mean: Array,
        var: Array,
        weight: float,
        axis: int,
        eps: float,
        out: Array,
        activation: str | None = None,
        mask: Array = None,
    ) -> tuple[Array, Moments, Array, Array] | None:
        """Do that, and return too what running statistics become, of unbiased variances."""

    def refuse_learning(self, array: Array) -> None:
        """Raise where work on an array is only recorded, to be repeated without Python."""

    def batch_norm_in_training(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        mean: Array,
        var: Array,
        number: Array,
        weight: float,
        axis: int,
        eps: float,
        out: Array,
        parts: Array,
    ) -> bool:
        """Normalize into `out`, move running statistics in place, and say whether it was done.

        The state of the moments goes to `parts`, and one is added to `number`. Nothing changes
        unless all of it does.
        """

    def batch_norm_backward(
        self,
        dy: Array,
        x: Array,
        moments: Moments,
        gamma: Array,
        beta: Array,
        axis: int,
        eps: float,
        training: bool,
        out: Array,
        activation: str | None = None,
        mask: Array = None,
    ) -> tuple[Array, Array, Array] | None:
        """Do what `functional.batch_norm_backward` does."""

    def batch_norm_inference(
        self,
        x: Array,
        mean: Array,
        var: Array,
        gamma: Array,
        beta: Array,
        axis: int,
        eps: float,
        out: Array,
        activation: str | None = None,
        mask: Array = None,
    ) -> Array:
        """Do what `functional.batch_norm_inference` does."""

    def beside(
        self, x: Array, vectors: tuple[np.ndarray, ...], kept: dict[Hashable, tuple[Array, ...]]
    ) -> tuple[Array, ...] | None:
        """Return vectors of a layer, which are of the host, where an array is.

        Parameters
        ----------
        kept : dict
            Of these vectors; has what was made of them before, and is added to.

        Raises
        ------
        RuntimeError
            If the work is being recorded to be repeated: it would be with the vectors of now.
        """

    def row_norm(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        num_axes: int,
        eps: float,
        centered: bool,
        out: Array,
    ) -> tuple[Array, Moments] | None:
        """Do what `functional.layer_norm` does, or `rms_norm` uncentered."""

    def row_norm_backward(
        self,
        dy: Array,
        x: Array,
        moments: Moments,
        gamma: Array,
        num_axes: int,
        eps: float,
        centered: bool,
        out: Array,
    ) -> tuple[Array, Array, Array] | None:
        """Return the gradients; that of beta for RMS norm too."""

    def group_norm(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        num_groups: int | None,
        axis: int,
        eps: float,
        out: Array,
    ) -> tuple[Array, Moments] | None:
        """Do what `functional.group_norm` does, or `instance_norm` without a number."""

    def moments(self, x: Array, axis: int | None, skipna: bool) -> Moments | None:
        """Do what `functional.moments` does."""

    def extrema(self, x: Array, axis: int | None, skipna: bool) -> Extrema | None:
        """Do what `functional.extrema` does."""

    def rescale(
        self, x: Array, affine: Affine, axis: int, clip: tuple[float, float] | None, out: Array
    ) -> Array:
        """Map each channel, as `Backend.rescale` does each of a view."""
