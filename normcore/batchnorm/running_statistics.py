"""Running statistics of channels, and how batches update them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from normcore.array_backend.abstract import Backend
from normcore.layout.namespace import Array, to_numpy
from normcore.layout.scalar_argument import as_float, as_floats, check_count
from normcore.statistics import Moments

__all__ = ["MOMENTUM", "RunningStatistics", "averaged", "weight_of_batch"]


class _Default(float):
    """A default that can be told from the same number given."""


MOMENTUM: float = _Default(0.1)


def weight_of_batch(momentum: float | None, decay: float | None = None) -> float | None:
    """Return the weight of the new batch, from whichever was given; None for equal weights.

    Raises
    ------
    ValueError
        If both are given, or the one is outside [0, 1].
    TypeError
        If it is no number.
    """
    if decay is None:
        return None if momentum is None else _unit("momentum", momentum)
    if momentum is not MOMENTUM:
        raise ValueError(
            f"there are both momentum={momentum!r}, the weight of the new batch, and "
            f"decay={decay!r}, the weight of the old value; give one of them"
        )
    return 1.0 - _unit("decay", decay)


def _unit(name: str, value: object) -> float:
    number = as_float(name, value, "a number or None")
    if not 0 <= number <= 1:
        raise ValueError(f"{name} must be None or lie in [0, 1], got {value!r}")
    return number


def averaged(
    mean: Array, var: Array, moments: Moments, weight: float, ddof: float, backend: Backend
) -> tuple[Array, Array]:
    """Return a mean and a variance moved towards those of a batch, and to where that is."""
    if type(mean) is not type(moments.parts):
        mean, var = (backend.release(to_numpy(each), moments.parts) for each in (mean, var))
    moved: tuple[Array, Array] = moments.running(mean, var, weight, ddof)
    return moved


class RunningStatistics:
    """A layer's running mean and variance of each channel, and whether it is in training.

    Vectors are of length C, and checked when they are assigned. A layer sets `momentum`.
    """

    momentum: float | None
    ddof: int = 1

    def __init__(self, num_features: int, track_running_stats: bool) -> None:
        self.num_features = check_count("num_features", num_features)
        self.track_running_stats = bool(track_running_stats)
        self.training = True
        self.reset_running_stats()
        self._reset_transient()

    def train(self, mode: bool = True) -> Self:
        """Normalize with the statistics of the data itself from now on; returns self.

        Parameters
        ----------
        mode : bool
            False does what :meth:`eval` does.
        """
        self.training = bool(mode)
        return self

    def eval(self) -> Self:
        """Normalize with the running statistics from now on, if there are any; returns self."""
        return self.train(False)

    def reset_running_stats(self) -> None:
        """Forget all batches: mean 0, variance 1."""
        tracked = self.track_running_stats
        self._running_mean: Array = np.zeros(self.num_features) if tracked else None
        self._running_var: Array = np.ones(self.num_features) if tracked else None
        self._num_batches_tracked = 0

    def replace_running_stats(self, mean: Array, var: Array, num_batches: int) -> None:
        """Take other running statistics, of this many batches, where they are.

        Parameters
        ----------
        mean, var : float64 array of shape (C,)
            On the host or on a device, where they stay; they are kept, not copied.
        num_batches : int
            How many :attr:`num_batches_tracked` says from then on.
        """
        with self._lock:
            self._running_mean, self._running_var = mean, var
            self._num_batches_tracked = num_batches

    @property
    def running_mean(self) -> Array:
        """Running mean of each channel, shape (C,), or None."""
        return self._on_host()[0]

    @running_mean.setter
    def running_mean(self, value: ArrayLike) -> None:
        vector = self._running_vector("running_mean", value)
        self._on_host()
        self._running_mean = vector

    @property
    def running_var(self) -> Array:
        """Running variance of each channel, of the layer's `ddof`, shape (C,), or None."""
        return self._on_host()[1]

    @running_var.setter
    def running_var(self, value: ArrayLike) -> None:
        vector = self._running_vector("running_var", value)
        if np.any(vector < 0):
            raise ValueError(f"running_var is negative in channel {int(np.argmax(vector < 0))}")
        self._on_host()
        self._running_var = vector

    @property
    def num_batches_tracked(self) -> int | None:
        """Number of training batches in the running statistics, or None."""
        return self._num_batches_tracked if self.track_running_stats else None

    @num_batches_tracked.setter
    def num_batches_tracked(self, value: int) -> None:
        if not self.track_running_stats:
            raise ValueError("there is no num_batches_tracked with track_running_stats=False")
        self._num_batches_tracked = check_count("num_batches_tracked", value)

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            self._bring_home()
            state = self.__dict__.copy()
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset_transient()

    def _reset_transient(self) -> None:
        """Set what does not travel in pickles and copies to what a new layer has."""
        self._lock = threading.Lock()

    def _on_host(self) -> tuple[Array, Array]:
        """Return the running mean and variance, which lie on the host from now on.

        So they may be changed in place, wherever they were learned.
        """
        with self._lock:
            self._bring_home()
            return self._running_mean, self._running_var

    def _bring_home(self) -> None:
        both = self._running_mean, self._running_var
        if self.track_running_stats:
            self._running_mean, self._running_var = map(to_numpy, both)

    def _running_statistics(self) -> tuple[Array, Array]:
        """Return the running mean and variance, where they are."""
        with self._lock:
            return self._running_mean, self._running_var

    def _update_within(
        self, call: Callable[[Array, Array, float], tuple[Array, ...] | None]
    ) -> tuple[Array, ...] | None:
        """Return what a call does beside updating the running statistics of a device by one batch.

        Parameters
        ----------
        call : callable
            ``call(mean, var, weight)`` returns more results, and the new mean and unbiased
            variance; or None, and has done nothing.

        Returns
        -------
        tuple or None
            The other results; None if nothing was done.
        """
        with self._lock:
            mean, var, weight = self._running_mean, self._running_var, self.momentum
            if weight is None or self.ddof != 1 or isinstance(mean, np.ndarray):
                return None
            done = call(mean, var, weight)
            if done is None:
                return None
            *others, self._running_mean, self._running_var = done
            self._num_batches_tracked += 1
            return tuple(others)

    def _update_running_stats(
        self, batches: Iterable[Moments], backend: Backend
    ) -> tuple[Array, Array]:
        """Update the running statistics by one batch after another; return what they were."""
        with self._lock:
            number = self._num_batches_tracked
            before = mean, var = self._running_mean, self._running_var
            for moments in batches:
                number += 1
                weight = 1.0 / number if self.momentum is None else self.momentum
                mean, var = self._updated(mean, var, moments, weight, backend)
            self._running_mean, self._running_var = mean, var
            self._num_batches_tracked = number
        return before

    def _updated(
        self, mean: Array, var: Array, moments: Moments, weight: float, backend: Backend
    ) -> tuple[Array, Array]:
        """Return running statistics moved towards a batch, where it is: nothing waits for a device.

        A channel without a variance, under a mask, leaves its running statistics alone.
        """
        return averaged(mean, var, moments, weight, self.ddof, backend)

    def _running_vector(self, name: str, value: ArrayLike) -> np.ndarray:
        return self._vector(name, value, self.track_running_stats, "track_running_stats=False")

    def _vector(self, name: str, value: ArrayLike, present: bool, reason: str) -> np.ndarray:
        if not present:
            raise ValueError(f"there is no {name} with {reason}")
        vector = as_floats(name, value)
        if vector.shape != (self.num_features,):
            raise ValueError(f"{name} must have shape ({self.num_features},), got {vector.shape}")
        return vector
