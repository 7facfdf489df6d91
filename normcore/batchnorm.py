"""Batch normalization with its parameters and running statistics."""

from __future__ import annotations

import numbers
import operator
import threading
from typing import Any, NamedTuple

import numpy as np

from normcore import layout
from normcore.backend import Backend
from normcore.batch import Batch, check_eps
from normcore.namespace import to_numpy
from normcore.statistics import Moments

__all__ = ["BatchNorm"]


class _Forward(NamedTuple):
    """What the backward pass needs of the latest forward pass."""

    batch: Batch | None  # None once its input was overwritten
    moments: Any  # Moments, in evaluation the mean and the variance
    training: bool


class BatchNorm:
    """Normalize each channel of a batch, then scale and shift it.

    In training the statistics are those of the batch (Algorithm 1 of the paper) and running ones
    are kept; in evaluation the running ones are used (Algorithm 2). `axis`, `eps`, `momentum` and
    the defaults mean what they mean in PyTorch.

    Parameters
    ----------
    num_features : int
        The number of channels, C.
    axis : int
        The channel axis; negative ones count from the end.
    eps : float
        Positive; added to the variance.
    momentum : float or None
        The weight of the new batch in the running statistics, in [0, 1]; None takes the average
        of all batches so far.
    affine : bool
        Whether to have `gamma` and `beta`.
    track_running_stats : bool
        Whether to keep running statistics; without them, evaluation normalizes with the statistics
        of the batch too.
    backend : str or Backend, optional
        Overrides the selection by context and by kind of array.

    Attributes
    ----------
    gamma, beta : ndarray of shape (C,), float64, or None
        Scale and shift, at first 1 and 0; None without `affine`. May be assigned or changed in
        place, as an optimizer does.
    running_mean, running_var : ndarray of shape (C,), float64, or None
        At first 0 and 1; None without `track_running_stats`. `running_var` averages the unbiased
        variance ``m / (m - 1) * var`` of the batches, m values to a channel (Algorithm 2, line 10).
    num_batches_tracked : int or None
        Training batches that the running statistics have seen.
    training : bool
        The mode, at first True; :meth:`train` and :meth:`eval` set it.

    Notes
    -----
    The latest input is kept, by reference, for :meth:`backward`: do not change it before then.
    It does not travel in pickles and copies. A call that raises leaves the layer as it was.
    Threads may share a layer in evaluation; in training no batch is lost from the running
    statistics, but which forward pass is the latest is up to chance.

    References
    ----------
    S. Ioffe and C. Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
    Internal Covariate Shift", ICML 2015.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> bn = nc.BatchNorm(2)
    >>> bn(np.array([[1.0, 10.0], [3.0, 30.0]])).round(3)
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> bn.running_mean
    array([0.2, 2. ])
    """

    __module__ = "normcore"

    _forward: _Forward | None

    def __init__(
        self,
        num_features: int,
        *,
        axis: int = 1,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        backend: str | Backend | None = None,
    ) -> None:
        try:
            self.num_features = operator.index(num_features)
            self.axis = operator.index(axis)
        except TypeError:
            raise TypeError(
                f"num_features and axis must be integers, got {num_features!r} and {axis!r}"
            ) from None
        if self.num_features < 0:
            raise ValueError(f"num_features must not be negative, got {num_features}")
        if momentum is not None and not isinstance(momentum, numbers.Real):
            raise TypeError(f"momentum must be a number or None, got {momentum!r}")
        if momentum is not None and not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be None or lie in [0, 1], got {momentum!r}")
        self.eps = check_eps(eps)
        self.momentum = momentum
        self.affine = bool(affine)
        self.track_running_stats = bool(track_running_stats)
        self.backend = backend
        self.training = True
        self._gamma: Any = np.ones(self.num_features) if self.affine else None
        self._beta: Any = np.zeros(self.num_features) if self.affine else None
        self.reset_running_stats()
        self._start_cache()

    def __call__(self, x: Any, out: Any = None, *, mask: Any = None) -> Any:
        """Return :meth:`forward` of the same arguments."""
        return self.forward(x, out, mask=mask)

    def forward(self, x: Any, out: Any = None, *, mask: Any = None) -> Any:
        """Normalize a batch and, in training, update the running statistics.

        Parameters
        ----------
        x : array of two or more dimensions, with C entries on `axis`
        out : array, optional
            Where to write the result; may be `x` itself, and then there is no backward pass.
        mask : boolean array, optional
            Which positions count, of shape ``(N,)`` for samples or of the shape of `x` without the
            channel axis. The others stay out of the statistics, and the result is 0 there.

        Returns
        -------
        array
            Of the kind, shape and float dtype of `x` (float64 for integers); `out` if given.

        Raises
        ------
        TypeError
            If `x` is not numeric and real, or `out` has another dtype than the result.
        ValueError
            If `x` has other than C channels, if in training a channel has fewer than two values,
            or if `mask` or `out` do not fit.
        """
        # Copies: an optimizer may change them in place between forward and backward.
        batch = Batch(
            x,
            _copy(self._gamma),
            _copy(self._beta),
            axis=self.axis,
            eps=self.eps,
            activation=None,
            mask=mask,
            backend=self.backend,
            num_features=self.num_features,
        )
        target = batch.adopt_out(out, batch.x)
        training = self.training or not self.track_running_stats
        moments: Any
        if training:
            batch.refuse_single_values()
            y, moments = batch.normalize(target)
        else:
            moments = _beside(self._running_mean, batch.x), _beside(self._running_var, batch.x)
            mean, var = (batch.beside(each) for each in moments)
            y = batch.rescale(mean, var, target)
        in_place = target is not None and layout.overlap(batch.x, target)
        result = batch.release(y, out)
        if self.training and self.track_running_stats:
            self._update_running_stats(moments, batch.backend)
        self._forward = _Forward(None if in_place else batch, moments, training)
        return result

    def backward(self, dy: Any, out: Any = None) -> tuple[Any, Any, Any]:
        """Gradients with respect to the latest input, `gamma` and `beta`.

        Parameters
        ----------
        dy : array
            Gradient of the loss with respect to the latest output; of its shape and dtype.
        out : array, optional
            Where to write dx; may be `dy` itself.

        Returns
        -------
        dx : array
            Of the kind of `dy`; `out` if given.
        dgamma, dbeta : array of shape (C,), float64, or None
            Of the kind of `dy`; None without `affine`.

        Raises
        ------
        RuntimeError
            If there was no forward pass yet, or the latest one overwrote its input.
        TypeError, ValueError
            If `dy` or `out` have another dtype or shape than the output.
        """
        forward = self._forward
        if forward is None:
            raise RuntimeError("backward needs a forward pass of this BatchNorm first")
        batch, moments = forward.batch, forward.moments
        if batch is None:
            raise RuntimeError(
                "the latest forward or backward pass overwrote its input (out overlaps it), which "
                "backward needs; give the forward pass an out of its own"
            )
        if not isinstance(moments, Moments):
            moments = Moments.of(np.ones(self.num_features), *map(to_numpy, moments))
        dx, dgamma, dbeta = batch.backward(dy, moments, forward.training, out)
        if out is not None and layout.overlap(batch.x, batch.backend.adopt(out)):
            self._forward = forward._replace(batch=None)
        return (dx, dgamma, dbeta) if self.affine else (dx, None, None)

    def train(self, mode: bool = True) -> BatchNorm:
        """Normalize with the statistics of the batch from now on; returns self."""
        self.training = bool(mode)
        return self

    def eval(self) -> BatchNorm:
        """Normalize with the running statistics from now on; returns self."""
        return self.train(False)

    def reset_running_stats(self) -> None:
        """Forget all batches: mean 0, variance 1."""
        tracked = self.track_running_stats
        self._running_mean: Any = np.zeros(self.num_features) if tracked else None
        self._running_var: Any = np.ones(self.num_features) if tracked else None
        self._num_batches_tracked: Any = 0 if tracked else None

    @property
    def gamma(self) -> Any:
        """Scale of each channel, shape (C,), or None."""
        return self._gamma

    @gamma.setter
    def gamma(self, value: Any) -> None:
        self._gamma = self._vector("gamma", value, self.affine, "affine=False")

    @property
    def beta(self) -> Any:
        """Shift of each channel, shape (C,), or None."""
        return self._beta

    @beta.setter
    def beta(self, value: Any) -> None:
        self._beta = self._vector("beta", value, self.affine, "affine=False")

    @property
    def running_mean(self) -> Any:
        """Running mean of each channel, shape (C,), or None."""
        return None if self._running_mean is None else to_numpy(self._running_mean)

    @running_mean.setter
    def running_mean(self, value: Any) -> None:
        self._running_mean = self._vector(
            "running_mean", value, self.track_running_stats, "track_running_stats=False"
        )

    @property
    def running_var(self) -> Any:
        """Running unbiased variance of each channel, shape (C,), or None."""
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
        number = operator.index(value)
        if number < 0:
            raise ValueError(f"num_batches_tracked must not be negative, got {number}")
        self._num_batches_tracked = number

    def __repr__(self) -> str:
        backend = "" if self.backend is None else f", backend={self.backend!r}"
        return (
            f"BatchNorm({self.num_features}, axis={self.axis}, eps={self.eps}, "
            f"momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}{backend})"
        )

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_forward"], state["_lock"]
        return {**state, "_running_mean": self.running_mean, "_running_var": self.running_var}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start_cache()

    def _start_cache(self) -> None:
        self._forward = None
        self._lock = threading.Lock()

    def _update_running_stats(self, moments: Moments, backend: Backend) -> None:
        """Follow the batch, where it is: nothing waits for a device.

        A channel without a variance, under a mask, leaves its running statistics alone.
        """
        parts = moments.parts
        with self._lock:
            number = self._num_batches_tracked + 1
            weight = 1.0 / number if self.momentum is None else self.momentum
            before = self._running_mean, self._running_var
            if type(before[0]) is not type(parts):
                before = tuple(backend.release(to_numpy(each), parts) for each in before)
            after = moments.running(*before, weight)
            self._running_mean, self._running_var = after
            self._num_batches_tracked = number

    def _vector(self, name: str, value: Any, present: bool, reason: str) -> np.ndarray:
        if not present:
            raise ValueError(f"there is no {name} with {reason}")
        vector = np.array(value, dtype=np.float64)
        if vector.shape != (self.num_features,):
            raise ValueError(f"{name} must have shape ({self.num_features},), got {vector.shape}")
        return vector


def _copy(vector: np.ndarray | None) -> np.ndarray | None:
    return None if vector is None else vector.copy()


def _beside(vector: Any, x: Any) -> Any:
    """Return running statistics for a batch: a copy, or those of a device for one there."""
    if isinstance(vector, np.ndarray):
        return vector.copy()
    return to_numpy(vector) if isinstance(x, np.ndarray) else vector
