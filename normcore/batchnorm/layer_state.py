"""What a batch norm layer holds: gamma and beta, running statistics, and its modes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from normcore.array_backend.whole_calls import WholeCalls
from normcore.batchnorm.renorm import check_limits
from normcore.batchnorm.running_statistics import RunningStatistics
from normcore.layout.namespace import Array, to_numpy

__all__ = ["AFFINE", "HostVectors", "LayerState", "beside", "copied"]

#: Values of `affine`, and whether there are gamma and beta.
AFFINE = {True: (True, True), False: (False, False), "gamma": (True, False), "beta": (False, True)}


class HostVectors:
    """Copies of vectors of the host, and those that a backend made of them on devices.

    Parameters
    ----------
    *vectors : ndarray or None
    """

    __slots__ = ("_bits", "_made", "vectors")

    def __init__(self, *vectors: np.ndarray | None) -> None:
        self.vectors = tuple(map(copied, vectors))
        self._bits = _bits(self.vectors)  # another thread may change the caller's in place
        self._made: dict[Hashable, tuple[Array, ...]] = {}

    def are(self, *vectors: np.ndarray | None) -> bool:
        """Whether these vectors are the same, to the bit."""
        return self._bits == _bits(vectors)

    def beside(self, calls: WholeCalls, x: Array) -> list[Array] | None:
        """Return the vectors where an array is, or None if the calls do not take that."""
        present = tuple(each for each in self.vectors if each is not None)
        found = calls.beside(x, present, self._made)
        if found is None:
            return None
        rows = iter(found)
        return [None if each is None else next(rows) for each in self.vectors]


def _bits(vectors: Sequence[np.ndarray | None]) -> list[bytes | None]:
    return [None if each is None else each.tobytes() for each in vectors]


class LayerState(RunningStatistics):
    """Parameters, running statistics, and which statistics the layer normalizes with."""

    axis: int
    eps: float
    frozen: bool
    _limits: tuple[float, float] | None  # of batch renormalization
    _vectors: HostVectors | None  # of the latest batch on a device

    def __init__(self, num_features: int, affine: bool | str, track_running_stats: bool) -> None:
        super().__init__(num_features, track_running_stats)
        if isinstance(affine, str) and affine not in AFFINE:
            raise ValueError(f"affine must be True, False, 'gamma' or 'beta', got {affine!r}")
        self.affine = affine if isinstance(affine, str) else bool(affine)
        has_gamma, has_beta = AFFINE[self.affine]
        self._gamma = np.ones(self.num_features) if has_gamma else None
        self._beta = np.zeros(self.num_features) if has_beta else None

    @property
    def gamma(self) -> Array:
        """Scale of each channel, shape (C,), or None."""
        return self._gamma

    @gamma.setter
    def gamma(self, value: ArrayLike) -> None:
        self._gamma = self._parameter("gamma", value, self._gamma is not None)

    @property
    def beta(self) -> Array:
        """Shift of each channel, shape (C,), or None."""
        return self._beta

    @beta.setter
    def beta(self, value: ArrayLike) -> None:
        self._beta = self._parameter("beta", value, self._beta is not None)

    def _host_vectors(self, *vectors: np.ndarray | None) -> HostVectors:
        """Return copies of vectors, those of the latest call where they are the same."""
        kept = self._vectors
        if kept is None or not kept.are(*vectors):
            kept = self._vectors = HostVectors(*vectors)
        return kept

    def freeze(self) -> Self:
        """Normalize with the running statistics from now on, also after ``train()``; returns self.

        Nothing updates them meanwhile. Gradients of `gamma` and `beta` are not affected.

        Raises
        ------
        ValueError
            If there are none.
        """
        if not self.track_running_stats:
            raise ValueError("there are no running statistics to freeze: track_running_stats=False")
        self.frozen = True
        return self

    def unfreeze(self) -> Self:
        """Let :meth:`train` and :meth:`eval` take effect again; returns self."""
        self.frozen = False
        return self

    @property
    def decay(self) -> float | None:
        """Weight of the old value in the running statistics, 1 - momentum, or None."""
        return None if self.momentum is None else 1.0 - self.momentum

    @property
    def r_max(self) -> float | None:
        """Largest correction of the scale in batch renormalization; None without it."""
        return None if self._limits is None else self._limits[0]

    @r_max.setter
    def r_max(self, value: float) -> None:
        self._limits = check_limits(value, self._renorm_limits("r_max")[1])

    @property
    def d_max(self) -> float | None:
        """Largest correction of the mean in batch renormalization; None without it."""
        return None if self._limits is None else self._limits[1]

    @d_max.setter
    def d_max(self, value: float) -> None:
        self._limits = check_limits(self._renorm_limits("d_max")[0], value)

    def __repr__(self) -> str:
        more = {
            "ddof": 1, "activation": None, "single": "error", "virtual_batch_size": None,
            "r_max": None, "d_max": None, "communicator": None, "backend": None,
            "precision": None,
        }  # fmt: skip
        options = "".join(
            f", {name}={getattr(self, name)!r}"
            for name, default in more.items()
            if getattr(self, name) != default
        )
        return (
            f"BatchNorm({self.num_features}, axis={self.axis}, eps={self.eps}, "
            f"momentum={self.momentum}, affine={self.affine!r}, "
            f"track_running_stats={self.track_running_stats}{options})"
        )

    def _parameter(self, name: str, value: ArrayLike, present: bool) -> np.ndarray:
        return self._vector(name, value, present, f"affine={self.affine!r}")

    def _renorm_limits(self, name: str) -> tuple[float, float]:
        if self._limits is None:
            raise ValueError(f"there is no {name}: this BatchNorm was made without r_max and d_max")
        return self._limits


def copied(vector: np.ndarray | None) -> np.ndarray | None:
    """Return a copy of a vector that an optimizer may change in place."""
    return None if vector is None else vector.copy()


def beside(vector: Array, x: Array) -> Array:
    """Return running statistics for a batch: a copy, or those of a device for one there."""
    if isinstance(vector, np.ndarray):
        return vector.copy()
    return to_numpy(vector) if isinstance(x, np.ndarray) else vector
