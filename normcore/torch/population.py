"""Population statistics of a model's batch norms: those of all its data, not running averages."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from normcore.array_backend import selection
from normcore.torch.arrays import from_core, to_core
from normcore.torch.batchnorm import _BatchNorm
from normcore.torch.layer import check_model
from normcore.torch.running_statistics import mean_and_var

__all__ = ["population_statistics"]


class _Pool:
    """What a layer has seen: the moments of all its batches, exactly merged."""

    def __init__(self) -> None:
        self.parts: Tensor | None = None
        self.num_batches = 0

    def update(self, parts: Tensor) -> None:
        given = to_core(parts)
        backend = selection.select_backend(given)
        with backend.in_order_with(given):
            moments = backend.moments_of(backend.adopt(given))
            before = self.parts
            if before is not None:
                before = backend.moments_of(backend.adopt(to_core(before)))
                moments = backend.merge(before, moments)
            self.parts = from_core(moments.parts, torch.float64, parts)
        self.num_batches += 1


@torch.no_grad()
def population_statistics(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    device: torch.device | str | None = None,
) -> None:
    """Set the running statistics of every batch norm to those of all the samples of a loader.

    Each batch goes through the model once, where batch norms normalize with the statistics of
    the batch, as in training; the moments of all batches, of any sizes, are pooled. That is what
    Algorithm 2 of the paper (Ioffe and Szegedy 2015) is for, and exact also where its average of
    variances is not.

    Parameters
    ----------
    model : nn.Module
        Its batch norms are normcore's (:func:`convert`), those with running statistics and not
        frozen. All other modules stay in the mode they are in: call ``model.eval()`` before, so
        that there is no dropout.
    loader : iterable
        Yields batches of input; of a tuple or list the first entry, as
        `torch.optim.swa_utils.update_bn` takes it.
    device : optional
        Where to copy batches to.

    Raises
    ------
    TypeError
        If the model is no module.
    ValueError
        If the model has no such layer, or the loader no batch.

    Notes
    -----
    The modes of the layers are restored. Where anything raises, nothing has changed. A layer that
    no batch reached stays as it is. `num_batches_tracked` becomes the number of batches. Where
    layers are synchronized, the statistics are those of all processes, each of which has to call
    this with as many batches.

    Examples
    --------
    >>> import torch
    >>> import normcore.torch as nt
    >>> model = nt.BatchNorm1d(1).eval()
    >>> _ = nt.population_statistics(model, [torch.zeros(2, 1), torch.full((6, 1), 4.0)])
    >>> model.running_mean
    tensor([3.])
    """
    check_model(model, "population_statistics")
    pools = {
        each: _Pool()
        for each in model.modules()
        if isinstance(each, _BatchNorm) and each._has_running_statistics() and not each.frozen
    }
    if not pools:
        raise ValueError(
            "the model has no batch norm of normcore's with running statistics; "
            "normcore.torch.convert(model) makes PyTorch's such"
        )
    with ExitStack() as restoring:
        for layer, pool in pools.items():
            restoring.callback(layer.train, layer.training)
            restoring.callback(delattr, layer, "_update_running_stats")
            layer._update_running_stats = pool.update  # type: ignore[method-assign]
            layer.train()
        for batch in loader:
            given = batch[0] if isinstance(batch, list | tuple) else batch
            model(given if device is None else given.to(device))
    if not any(pool.num_batches for pool in pools.values()):
        raise ValueError("the loader yielded no batch that reached a batch norm")
    for layer, pool in pools.items():
        if pool.parts is not None:
            mean, var = mean_and_var(pool.parts)
            layer.running_mean.copy_(mean)
            layer.running_var.copy_(var)
            layer.num_batches_tracked.fill_(pool.num_batches)
