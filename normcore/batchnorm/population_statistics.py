"""Population statistics of several layers at once: those of all data, not running averages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np

from normcore.array_backend.abstract import Backend
from normcore.batchnorm.layer import BatchNorm
from normcore.batchnorm.running_statistics import averaged
from normcore.layout.namespace import Array, to_numpy
from normcore.layout.scalar_argument import check_choice
from normcore.statistics import Moments

__all__ = ["population_statistics"]


class _Pooled:
    """The moments of all samples, exactly merged."""

    def __init__(self, layer: BatchNorm) -> None:
        self.ddof = layer.ddof
        self.moments: Moments | None = None
        self.number = 0

    def update(self, moments: Moments, backend: Backend) -> object:
        replaced = before = self.moments
        if before is not None and type(before.parts) is not type(moments.parts):
            before = Moments(backend.release(to_numpy(before.parts), moments.parts))
        self.moments = moments if before is None else backend.merge(before, moments)
        self.number += 1
        return replaced

    def statistics(self) -> tuple[Array, Array]:
        assert self.moments is not None
        return self.moments.mean, self.moments.var(self.ddof)


class _Algorithm2:
    """The average of means and of unbiased variances over batches of one size."""

    def __init__(self, layer: BatchNorm) -> None:
        self.count: Array = None
        self.average: tuple[Array, Array] = (0.0, 0.0)
        self.number = 0

    def update(self, moments: Moments, backend: Backend) -> object:
        count, replaced = to_numpy(moments.count), self.average
        if self.count is None:
            self.count, self.average = count, (moments.mean, moments.var(ddof=1))
        elif not np.array_equal(count, self.count):
            channel = int(np.argmax(count != self.count))
            raise ValueError(
                "method='algorithm2' averages variances, which needs batches of one size, but "
                f"channel {channel} has {count[channel]:g} values after {self.count[channel]:g} "
                "in the first batch; method='pooled' takes any sizes"
            )
        else:
            weight = 1.0 / (self.number + 1)
            self.average = averaged(*self.average, moments, weight, 1.0, backend)
        self.number += 1
        return replaced

    def statistics(self) -> tuple[Array, Array]:
        return self.average


_METHODS: dict[str, type[_Pooled] | type[_Algorithm2]] = {
    "pooled": _Pooled,
    "algorithm2": _Algorithm2,
}


@contextmanager
def population_statistics(layers: Iterable[BatchNorm], *, method: str = "pooled") -> Iterator[None]:
    """Collect the statistics of all batches, and replace the running ones at the end.

    Inside, the layers normalize with the statistics of each batch, as in training, while the
    running statistics stay; so one pass over the data serves all layers of a network.

    Parameters
    ----------
    layers : iterable of BatchNorm
        Those with running statistics. Frozen ones are left alone.
    method : {"pooled", "algorithm2"}
        Whether to take the moments of all samples, exactly merged over batches of any sizes; or
        the averages over batches of their mean and of ``m / (m - 1)`` times their variance, as in
        Algorithm 2 of the paper (Ioffe and Szegedy 2015, line 10), which needs batches of one
        size m. Pooled variances have the `ddof` of the layer.

    Raises
    ------
    ValueError
        If a layer has no running statistics or is collecting already, if batches for
        "algorithm2" differ in size, or if no batch reached a layer that is not frozen.
    TypeError
        If a layer is no BatchNorm.

    Notes
    -----
    The modes of the layers are restored at the end, and `num_batches_tracked` becomes the number
    of batches. Where anything raises, nothing has changed. A layer that no batch reached stays as
    it is. Calls with ``update_stats=False`` do not count.

    Examples
    --------
    >>> import numpy as np
    >>> import normcore as nc
    >>> bn = nc.BatchNorm(1)
    >>> with nc.population_statistics([bn]):
    ...     for batch in np.array([[[1.0], [3.0]], [[5.0], [7.0]]]):
    ...         _ = bn(batch)
    >>> bn.running_mean
    array([4.])
    """
    kind = _METHODS[check_choice("method", method, tuple(_METHODS))]
    chosen: dict[int, BatchNorm] = {}
    for layer in layers:
        if not isinstance(layer, BatchNorm):
            raise TypeError(f"layers must be normcore.BatchNorm, but one is {layer!r}")
        if not layer.track_running_stats:
            raise ValueError(f"{layer!r} has no running statistics to replace")
        if layer._population is not None:
            raise ValueError(f"{layer!r} is collecting population statistics already")
        if not layer.frozen:
            chosen[id(layer)] = layer
    populations = [(layer, kind(layer)) for layer in chosen.values()]
    with ExitStack() as restoring:
        for layer, population in populations:
            restoring.callback(_restore, layer, layer.training)
            layer._population = population
            layer.train()
        yield
    reached = [(layer, each) for layer, each in populations if each.number]
    if chosen and not reached:
        raise ValueError("no batch reached a layer that population_statistics was given")
    found = [(layer, each.statistics(), each.number) for layer, each in reached]
    for layer, (mean, var), number in found:
        layer.replace_running_stats(mean, var, number)


def _restore(layer: BatchNorm, training: bool) -> None:
    layer._population = None
    layer.train(training)
