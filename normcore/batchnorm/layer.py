"""Batch normalization with its parameters and running statistics."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Protocol, Self

from normcore.array_backend.abstract import Backend, is_relu
from normcore.array_backend.precision import check_precision
from normcore.array_backend.selection import in_order_with
from normcore.batchnorm.arguments import Batch, check_eps, check_integer
from normcore.batchnorm.forward_backward import PartitionedForward, SavedForward
from normcore.batchnorm.framework_conversion import FrameworkConversions
from normcore.batchnorm.inference import Inference
from normcore.batchnorm.layer_state import beside, copied
from normcore.batchnorm.renorm import RenormBatch, check_limits
from normcore.batchnorm.running_statistics import MOMENTUM, weight_of_batch
from normcore.batchnorm.virtual_batches import Partition
from normcore.batchnorm.whole_forward import WholeForward
from normcore.distributed.communicator import (
    Communicator,
    ProcessGroup,
    process_group_of,
    single_process_error,
)
from normcore.layout import out_argument
from normcore.layout.namespace import Array
from normcore.layout.scalar_argument import check_choice, check_size
from normcore.statistics import Moments

__all__ = ["BatchNorm", "Population"]


class Population(Protocol):
    """What :func:`normcore.population_statistics` collects of a layer."""

    def update(self, moments: Moments, backend: Backend) -> object:
        """Take in the moments of one more batch; return what that replaces."""


class BatchNorm(FrameworkConversions):
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
    decay : float, optional
        The weight of the old value instead, which is 1 - momentum: Keras, Flax and ONNX call this
        one momentum.
    affine : bool, "gamma" or "beta"
        Whether to have `gamma` and `beta`, or only one of them.
    track_running_stats : bool
        Whether to keep running statistics; without them, evaluation normalizes with the statistics
        of the batch too.
    ddof : {1, 0}
        Of the variance that is kept: 1 for the unbiased one (Algorithm 2, line 10, and PyTorch),
        0 for the biased one (Keras, Flax and ONNX). The batch itself is always normalized with
        the biased one.
    activation : {None, "relu"}
        Applied to the result in the same pass.
    single : {"error", "skip", "running"}
        What becomes of a batch in training with one value in each channel, which has no variance:
        it is refused; or it is normalized by itself, all to 0 before `gamma` and `beta`; or with
        the running statistics, as in evaluation. It never changes the running statistics.
    virtual_batch_size : int, optional
        Splits batches in training into virtual (ghost) ones of at most this many samples, of
        sizes that differ by at most one, each normalized by itself. They update the running
        statistics one after another.
    r_max, d_max : float, optional
        Both of them turn on batch renormalization: in training, what comes out of the statistics
        of the batch is multiplied by ``r = clip(sigma_B / sigma, 1 / r_max, r_max)`` and moved by
        ``d = clip((mean_B - mean) / sigma, -d_max, d_max)`` before `gamma` and `beta`, where mean
        and sigma are the running ones before this batch and the gradient does not flow through r
        and d. r_max is at least 1 and d_max at least 0; at 1 and 0 this is batch norm. They may
        be assigned, as training schedules relax them.
    communicator : Communicator, optional
        Joins the processes that train copies of the layer, each with batches of its own, of any
        number of samples: in training the statistics are those of the batches of all of them, and
        those update the running ones. Every process must then call :meth:`forward` and
        :meth:`backward` as often as the others; where one raises, all do.
    backend : str or Backend, optional
        Overrides the selection by context and by kind of array.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`).

    Attributes
    ----------
    gamma, beta : ndarray of shape (C,), float64, or None
        Scale and shift, at first 1 and 0; None where `affine` says so. May be assigned or changed
        in place, as an optimizer does.
    running_mean, running_var : ndarray of shape (C,), float64, or None
        At first 0 and 1; None without `track_running_stats`. `running_var` averages
        ``m / (m - ddof) * var`` of the batches, m values to a channel.
    num_batches_tracked : int or None
        Training batches that the running statistics have seen.
    training : bool
        The mode, at first True; :meth:`train` and :meth:`eval` set it.
    frozen : bool
        Whether running statistics are used whatever the mode; :meth:`freeze` sets it.

    Notes
    -----
    The latest input is kept, by reference, for :meth:`backward`: do not change it before then.
    It does not travel in pickles and copies, and the communicator travels in copies alone: assign
    it after loading. A call that raises leaves the layer as it was.
    Threads may share a layer in evaluation; in training no batch is lost from the running
    statistics, but which forward pass is the latest is up to chance.

    References
    ----------
    S. Ioffe and C. Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
    Internal Covariate Shift", ICML 2015.

    S. Ioffe, "Batch Renormalization: Towards Reducing Minibatch Dependence in Batch-Normalized
    Models", NeurIPS 2017.

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

    communicator: Communicator | None
    _forward: SavedForward | PartitionedForward | Inference | WholeForward | None
    _population: Population | None  # what population_statistics collects, while it does

    def __init__(
        self,
        num_features: int,
        *,
        axis: int = 1,
        eps: float = 1e-5,
        momentum: float | None = MOMENTUM,
        decay: float | None = None,
        affine: bool | str = True,
        track_running_stats: bool = True,
        ddof: int = 1,
        activation: str | None = None,
        single: str = "error",
        virtual_batch_size: int | None = None,
        r_max: float | None = None,
        d_max: float | None = None,
        communicator: Communicator | None = None,
        backend: str | Backend | None = None,
        precision: str | None = None,
    ) -> None:
        super().__init__(num_features, affine, track_running_stats)
        self.axis = check_integer("axis", axis)
        self.eps = check_eps(eps)
        self.momentum = weight_of_batch(momentum, decay)
        self.ddof = check_choice("ddof", ddof, (0, 1))
        self.activation = activation if is_relu(activation) else None
        self.single = check_choice("single", single, ("error", "skip", "running"))
        self.virtual_batch_size = check_size("virtual_batch_size", virtual_batch_size)
        self._limits = check_limits(r_max, d_max)
        if not self.track_running_stats and (self._limits is not None or single == "running"):
            name = "single='running'" if self._limits is None else "batch renormalization"
            raise ValueError(f"{name} needs running statistics, but track_running_stats is False")
        self.communicator = communicator
        if communicator is not None:
            ProcessGroup(communicator)  # refuses what is none
            if self.virtual_batch_size is not None or self.single != "error":
                name = "single" if self.virtual_batch_size is None else "virtual_batch_size"
                raise single_process_error(name, getattr(self, name))
        self.backend = backend
        self.precision = check_precision(precision)
        self.frozen = False

    def __call__(
        self,
        x: Array,
        out: Array = None,
        *,
        mask: Array = None,
        groups: Array | Sequence[slice] = None,
        update_stats: bool = True,
    ) -> Array:
        """Return :meth:`forward` of the same arguments."""
        return self.forward(x, out, mask=mask, groups=groups, update_stats=update_stats)

    def forward(
        self,
        x: Array,
        out: Array = None,
        *,
        mask: Array = None,
        groups: Array | Sequence[slice] = None,
        update_stats: bool = True,
    ) -> Array:
        """Normalize a batch and, in training, update the running statistics.

        Parameters
        ----------
        x : array of two or more dimensions, with C entries on `axis`
            In training it may be empty: so is the result, and nothing is updated.
        out : array, optional
            Where to write the result, in the memory order of `x`; may be `x` itself, and then
            there is no backward pass.
        mask : bool array, optional
            Which positions count, of shape ``(N,)`` for samples or of the shape of `x` without the
            channel axis. The others stay out of the statistics, and the result is 0 there.
        groups : array of shape (N,), or sequence of slices, optional
            A label for each sample, or slices that have each sample once: in training each group
            is normalized by itself, as a domain of its own is, and updates the running statistics
            one after another, in the order of the labels or slices. Without effect in evaluation.
        update_stats : bool
            Whether the batch updates the running statistics, in training.

        Returns
        -------
        array
            Of the kind, shape and float dtype of `x` (float64 for integers); `out` if given.

        Raises
        ------
        TypeError
            If `x` is not numeric and real, or `out` has another dtype than the result.
        ValueError
            If `x` has other than C channels, if in training a channel has one value (see
            `single`) or a mask leaves it none, if `mask`, `groups` or `out` do not fit, or if
            there are `groups` beside a `virtual_batch_size` or a communicator.
        RuntimeError
            If another rank of the communicator raised.
        """
        training = not self.track_running_stats or (self.training and not self.frozen)
        if not training and mask is None and groups is None and self._limits is None:
            inference = Inference.of(
                x, self._running_mean, self._running_var, self._gamma, self._beta, out,
                self.axis, self.eps, self.activation, self.backend, self._forward,
                self.precision,
            )  # fmt: skip
            if inference is not None:
                self._forward = inference
                return inference.y
        communicator = self.communicator if training and self.training else None
        updates = update_stats and training and self.training and self.track_running_stats
        is_whole = groups is None and (self.virtual_batch_size is None or not training)
        if is_whole and self._limits is None and communicator is None:
            whole = WholeForward.of(self, x, out, mask, training, updates)
            if whole is not None:
                self._forward = whole
                return whole.y
        joined = process_group_of(communicator)
        with joined as process_group, in_order_with(x, self.backend):
            batch = self._batch(x, mask, training)
            batch.join(process_group)
            target = batch.adopt_out(out, batch.x)
            partition = Partition.of(batch, groups, self.virtual_batch_size)
            y, forward = self._normalize(batch, partition if training else None, target, training)
            if target is not None and out_argument.overlap(batch.x, target):
                forward.overwrite()
            result = batch.release(y, out)  # may fail, and then nothing has changed
            if updates:
                _old = self._update(forward, batch.backend, x)  # held until streams meet
        self._forward = forward
        return result

    def backward(self, dy: Array, out: Array = None) -> tuple[Array, Array, Array]:
        """Gradients with respect to the latest input, `gamma` and `beta`.

        Parameters
        ----------
        dy : array
            Gradient of the loss with respect to the latest output; of its shape and dtype.
        out : array, optional
            Where to write dx, in the memory order of `dy`; may be `dy` itself.

        Returns
        -------
        dx : array
            Of the kind of `dy`; `out` if given.
        dgamma, dbeta : array of shape (C,), float64, or None
            Of the kind of `dy`; None where the layer has no such parameter.

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
        dx, dgamma, dbeta = forward.backward(dy, out)
        if self.affine is True:
            return dx, dgamma, dbeta
        return dx, None if self._gamma is None else dgamma, None if self._beta is None else dbeta

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        for name in ("_forward", "_vectors", "_population", "communicator"):
            del state[name]
        return state

    def __copy__(self) -> Self:
        return self._copy_of(self.__getstate__())

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self._copy_of(deepcopy(self.__getstate__(), memo))

    def _copy_of(self, state: dict[str, Any]) -> Self:
        """Return a layer of a state that is joined to the same processes."""
        other = type(self).__new__(type(self))
        other.__setstate__(state)
        other.communicator = self.communicator
        return other

    def _reset_transient(self) -> None:
        super()._reset_transient()
        self._forward = self._vectors = self._population = self.communicator = None

    def _batch(self, x: Array, mask: Array, training: bool) -> Batch:
        # Copies: an optimizer may change them in place between forward and backward.
        batch = (Batch if self._limits is None else RenormBatch)(
            x, copied(self._gamma), copied(self._beta), axis=self.axis, eps=self.eps,
            activation=self.activation, mask=mask, backend=self.backend,
            precision=self.precision, num_features=self.num_features,
        )  # fmt: skip
        if self._limits is not None and isinstance(batch, RenormBatch) and training:
            mean, var = (batch.beside(each) for each in self._running(batch))
            batch.towards(mean, var, *self._limits)
        return batch

    def _plan(self, batch: Batch) -> tuple[bool, bool]:
        """Whether to take the statistics of a batch in training, and to update the running ones."""
        if batch.process_group is not None:
            return True, True
        count = batch.count()
        if count > 1:
            return True, True
        if batch.is_empty():
            return True, False
        batch.refuse_single_values(self.single)
        return self.single == "skip", False

    def _normalize(
        self, batch: Batch, partition: Partition | None, target: Array, training: bool
    ) -> tuple[Array, SavedForward | PartitionedForward]:
        if partition is None:
            plan = self._plan(batch) if training else (False, False)
            return self._normalize_whole(batch, target, *plan)
        forward = PartitionedForward(batch, partition)
        plans = [self._plan(each) for each in forward.batches]
        parts = forward.batches
        y = forward.normalize(
            lambda index, out: self._normalize_whole(parts[index], out, *plans[index]), target
        )
        return y, forward

    def _normalize_whole(
        self, batch: Batch, target: Array, training: bool, update_stats: bool
    ) -> tuple[Array, SavedForward]:
        if training:
            y, moments = batch.normalize(target)
            return y, SavedForward(batch, moments, True, update_stats)
        statistics = self._running(batch)
        mean, var = (batch.beside(each) for each in statistics)
        return batch.rescale(mean, var, target), SavedForward(batch, statistics, False, False)

    def _running(self, batch: Batch) -> tuple[Array, Array]:
        return beside(self._running_mean, batch.x), beside(self._running_var, batch.x)

    def _update(
        self,
        forward: SavedForward | PartitionedForward | WholeForward,
        backend: Backend,
        x: Array,
    ) -> object:
        """Update the statistics being collected, or the running ones; return what they were."""
        batches = forward.moments_for_update()
        if batches and backend.whole_calls is not None:
            backend.whole_calls.refuse_learning(x)
        if self._population is not None:
            with self._lock:
                return [self._population.update(moments, backend) for moments in batches]
        return self._update_running_stats(batches, backend) if batches else None
