"""What a batch norm layer holds of each channel: parameters and running statistics."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import numpy as np

from normcore.array_backend.abstract import Backend
from normcore.layout.namespace import Array, to_numpy
from normcore.layout.scalar_argument import as_floats, check_count
from normcore.statistics import Moments

__all__ = ["ChannelState"]

#: Values of `affine`, and whether there are gamma and beta.
AFFINE = {True: (True, True), False: (False, False), "gamma": (True, False), "beta": (False, True)}


class ChannelState:
    """Vectors of length C, checked when they are assigned.

    A layer sets `momentum` and `ddof`.
    """

    momentum: float | None
    ddof: int

    def __init__(self, num_features: int, affine: bool | str, track_running_stats: bool) -> None:
        self.num_features = check_count("num_features", num_features)
        if isinstance(affine, str) and affine not in AFFINE:
            raise ValueError(f"affine must be True, False, 'gamma' or 'beta', got {affine!r}")
        self.affine = affine if isinstance(affine, str) else bool(affine)
        self.track_running_stats = bool(track_running_stats)
        has_gamma, has_beta = AFFINE[self.affine]
        self._gamma: Array = np.ones(self.num_features) if has_gamma else None
        self._beta: Array = np.zeros(self.num_features) if has_beta else None
        self.reset_running_stats()
        self._start_cache()

    def reset_running_stats(self) -> None:
        """Forget all batches: mean 0, variance 1."""
        tracked = self.track_running_stats
        self._running_mean: Any = np.zeros(self.num_features) if tracked else None
        self._running_var: Any = np.ones(self.num_features) if tracked else None
        self._num_batches_tracked: Any = 0 if tracked else None

    def replace_running_stats(self, mean: Array, var: Array, num_batches: int) -> None:
        """Take other running statistics, of this many batches, where they are."""
        with self._lock:
            self._running_mean, self._running_var = mean, var
            self._num_batches_tracked = num_batches

    @property
    def gamma(self) -> Array:
        """Scale of each channel, shape (C,), or None."""
        return self._gamma

    @gamma.setter
    def gamma(self, value: Any) -> None:
        self._gamma = self._vector(
            "gamma", value, self._gamma is not None, f"affine={self.affine!r}"
        )

    @property
    def beta(self) -> Array:
        """Shift of each channel, shape (C,), or None."""
        return self._beta

    @beta.setter
    def beta(self, value: Any) -> None:
        self._beta = self._vector("beta", value, self._beta is not None, f"affine={self.affine!r}")

    @property
    def running_mean(self) -> Array:
        """Running mean of each channel, shape (C,), or None."""
        return None if self._running_mean is None else to_numpy(self._running_mean)

    @running_mean.setter
    def running_mean(self, value: Any) -> None:
        self._running_mean = self._vector(
            "running_mean", value, self.track_running_stats, "track_running_stats=False"
        )

    @property
    def running_var(self) -> Array:
        """Running variance of each channel, of the layer's `ddof`, shape (C,), or None."""
        return None if self._running_var is None else to_numpy(self._running_var)

    @running_var.setter
    def running_var(self, value: Any) -> None:
        vector = self._vector(
            "running_var", value, self.track_running_stats, "track_running_stats=False"
        )
        if np.any(vector < 0):
            raise ValueError(f"running_var is negative in channel {int(np.argmax(vector < 0))}")
        self._running_var = vector

    @property
    def num_batches_tracked(self) -> Any:
        """Number of training batches in the running statistics, or None."""
        return self._num_batches_tracked

    @num_batches_tracked.setter
    def num_batches_tracked(self, value: Any) -> None:
        if not self.track_running_stats:
            raise ValueError("there is no num_batches_tracked with track_running_stats=False")
        self._num_batches_tracked = check_count("num_batches_tracked", value)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_lock"]
        return {**state, "_running_mean": self.running_mean, "_running_var": self.running_var}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start_cache()

    def _start_cache(self) -> None:
        self._lock = threading.Lock()

    def _follow(self, batches: Iterable[Moments], backend: Backend) -> None:
        """Move running statistics, where they are: nothing waits for a device.

        A channel without a variance, under a mask, leaves its running statistics alone.
        """
        with self._lock:
            number = self._num_batches_tracked
            after = self._running_mean, self._running_var
            for moments in batches:
                number += 1
                weight = 1.0 / number if self.momentum is None else self.momentum
                if type(after[0]) is not type(moments.parts):
                    after = tuple(backend.release(to_numpy(each), moments.parts) for each in after)
                after = moments.running(*after, weight, self.ddof)
            self._running_mean, self._running_var = after
            self._num_batches_tracked = number

    def _vector(self, name: str, value: Any, present: bool, reason: str) -> np.ndarray:
        if not present:
            raise ValueError(f"there is no {name} with {reason}")
        vector = as_floats(name, value)
        if vector.shape != (self.num_features,):
            raise ValueError(f"{name} must have shape ({self.num_features},), got {vector.shape}")
        return vector
