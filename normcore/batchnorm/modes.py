"""The modes of a batch norm layer, and the options that steer them."""

from __future__ import annotations

from typing import Self

from normcore.batchnorm.options import check_limits
from normcore.batchnorm.running_statistics import ChannelState

__all__ = ["Modes"]


class Modes(ChannelState):
    """Which statistics a layer normalizes with, and how far they are corrected."""

    axis: int
    eps: float
    training: bool
    frozen: bool
    _limits: tuple[float, float] | None  # of batch renormalization

    def train(self, mode: bool = True) -> Self:
        """Normalize with the statistics of the batch from now on; returns self.

        A frozen layer keeps to the running ones until :meth:`unfreeze`.
        """
        self.training = bool(mode)
        return self

    def eval(self) -> Self:
        """Normalize with the running statistics from now on; returns self."""
        return self.train(False)

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
        """Follow :meth:`train` and :meth:`eval` again; returns self."""
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

    def _renorm_limits(self, name: str) -> tuple[float, float]:
        if self._limits is None:
            raise ValueError(f"there is no {name}: this BatchNorm was made without r_max and d_max")
        return self._limits
