"""The stateless face of normcore: statistics and normalization as functions of arrays.

Every function selects the backend from the array it is given, hands that backend views of the
array, and returns results of the caller's kind; nothing is remembered between calls. This is the
layer that other frameworks embed. Functions that plugins register as ``"functional.<name>"``
resolve here too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normcore import layout, registration
from normcore.array_backend import over_views, selection
from normcore.array_backend.abstract import Backend
from normcore.batchnorm.affine_map import apply
from normcore.batchnorm.conv_folding import fold_batch_norm
from normcore.batchnorm.functions import batch_norm, batch_norm_backward, batch_norm_inference
from normcore.batchnorm.renorm import batch_renorm, batch_renorm_backward
from normcore.layernorm import (
    group_norm,
    group_norm_backward,
    instance_norm,
    instance_norm_backward,
    layer_norm,
    layer_norm_backward,
    rms_norm,
    rms_norm_backward,
)
from normcore.layout.namespace import Array
from normcore.layout.scalar_argument import as_floats
from normcore.registration import discovery
from normcore.statistics import Extrema, Moments, wide_integers
from normcore.statistics.brackets import Quantiles

if not TYPE_CHECKING:  # a misspelt name stays a type error

    def __getattr__(name: str) -> object:
        """Find the plugin that supplies a function (PEP 562)."""
        if not name.startswith("_"):
            try:
                value = registration.supplied(f"functional.{name}")
            except KeyError:
                pass
            else:
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *discovery.known_supplied_names("functional")})


__all__ = [
    "apply",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_inference",
    "batch_renorm",
    "batch_renorm_backward",
    "extrema",
    "fold_batch_norm",
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "moments",
    "quantiles",
    "rms_norm",
    "rms_norm_backward",
]


def moments(
    x: Array,
    *,
    channel_axis: int | None,
    weights: Array = None,
    skipna: bool = False,
    backend: str | Backend | None = None,
) -> Moments:
    """Count, mean and sum of squared deviations of each channel.

    Parameters
    ----------
    x : array of any shape
    channel_axis : int or None
        The axis whose C entries are the channels; None takes all values as one channel.
    weights : array, optional
        Non-negative weights, of shape ``(N,)`` for the entries of the first axis or of the shape
        of `x` without the channel axis.
    skipna : bool
        Whether NaN counts as missing; otherwise it propagates.
    backend : str or Backend, optional
        Overrides the selection by context and by kind of array.

    Returns
    -------
    Moments
        With ``count``, ``mean``, ``m2``, ``var(ddof)`` and ``std(ddof)``, each of shape (C,).

    Raises
    ------
    TypeError
        If `x` is not numeric and real.
    ValueError
        If the axis does not exist, or the weights do not fit or are all so small, or so large, that
        float64 cannot hold their products with `x`.

    Examples
    --------
    >>> import numpy as np
    >>> from normcore import functional as F
    >>> x = np.array([[0.0, 1.0], [2.0, 5.0]])
    >>> F.moments(x, channel_axis=1).mean
    array([1., 3.])
    """
    plain = selection.of_plain_call(x, backend, weights)
    if plain is not None and plain.whole_calls is not None:
        found = plain.whole_calls.moments(x, channel_axis, skipna)
        if found is not None:
            return found
    x = layout.as_array(x)
    chosen = selection.select_backend(x, backend)
    with chosen.in_order_with(x):
        if weights is not None:
            weights = chosen.adopt(over_views.as_weights(weights, x))
        x = chosen.adopt(x)

        def observed(weights: Array) -> Moments:
            return over_views.observe(
                wide_integers.exactly(chosen.moments, x), x, channel_axis,
                weights=weights, merge=chosen.merge, skipna=skipna,
            )  # fmt: skip

        found = observed(weights)
        if weights is not None:
            over_views.refuse_products(observed, weights, found)
        return found


def extrema(
    x: Array,
    *,
    channel_axis: int | None,
    skipna: bool = False,
    backend: str | Backend | None = None,
) -> Extrema:
    """Smallest and largest value of each channel.

    Parameters
    ----------
    x, channel_axis, skipna, backend
        As for :func:`moments`.

    Returns
    -------
    Extrema
        With ``min``, ``max`` and ``count``, each of shape (C,).

    Raises
    ------
    TypeError, ValueError
        As for :func:`moments`.

    Examples
    --------
    >>> import numpy as np
    >>> from normcore import functional as F
    >>> x = np.array([[0.0, 1.0], [2.0, 5.0]])
    >>> F.extrema(x, channel_axis=1).max
    array([2., 5.])
    """
    plain = selection.of_plain_call(x, backend)
    if plain is not None and plain.whole_calls is not None:
        found = plain.whole_calls.extrema(x, channel_axis, skipna)
        if found is not None:
            return found
    x = layout.as_array(x)
    chosen = selection.select_backend(x, backend)
    with chosen.in_order_with(x):
        return over_views.observe(
            chosen.extrema, chosen.adopt(x), channel_axis, merge=chosen.merge, skipna=skipna
        )


def quantiles(
    x: Array,
    q: Array,
    *,
    channel_axis: int | None,
    weights: Array = None,
    skipna: bool = False,
    backend: str | Backend | None = None,
) -> Quantiles:
    """Exact quantiles of each channel, linearly interpolated between neighbours.

    Parameters
    ----------
    q : float or sequence of R floats in [0, 1]
    x, channel_axis, weights, skipna, backend
        As for :func:`moments`.

    Returns
    -------
    Quantiles
        ``values`` has shape (R, C).

    Raises
    ------
    ValueError
        If some `q` lies outside [0, 1], and as for :func:`moments`.

    Examples
    --------
    >>> import numpy as np
    >>> from normcore import functional as F
    >>> x = np.array([[0.0, 1.0], [2.0, 5.0]])
    >>> F.quantiles(x, 0.5, channel_axis=1).values
    array([[1., 3.]])
    """
    ranks = np.atleast_1d(as_floats("q", q))
    if ranks.ndim != 1 or not np.all((ranks >= 0) & (ranks <= 1)):
        raise ValueError(f"q must be one number or a sequence of numbers in [0, 1], got {q!r}")
    x = layout.as_array(x)
    chosen = selection.select_backend(x, backend)

    def observe(view: Array, **options: Array) -> Quantiles:
        return chosen.quantiles(view, ranks, **options)

    with chosen.in_order_with(x):
        if weights is not None:
            weights = chosen.adopt(over_views.as_weights(weights, x))
        groups = [
            over_views.observe(observe, group, axis, weights=plane, skipna=skipna)
            for group, axis, plane in layout.as_single_views(chosen.adopt(x), channel_axis, weights)
        ]
    return Quantiles.side_by_side(groups)
