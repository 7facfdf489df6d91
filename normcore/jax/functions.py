"""Normalizations as functions of JAX's arrays."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp
from jax.typing import ArrayLike

from normcore.array_backend.precision import resolved
from normcore.array_backend.selection import select_backend
from normcore.batchnorm.arguments import check_eps, check_integer
from normcore.jax.derivatives import normalized
from normcore.jax.host_call import aligned
from normcore.jax.normalization import Normalization
from normcore.layernorm.layer_rms import check_offset

__all__ = [
    "BatchStatistics",
    "batch_norm",
    "batch_norm_inference",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "rms_norm",
]


class BatchStatistics(NamedTuple):
    """Mean and biased variance of each channel of a batch, and the number of its values.

    Mean and variance have derivatives, too. They are float64 where JAX has it, else float32.

    Attributes
    ----------
    mean, var : array of shape (C,)
    count : array of shape ()
        The same for all channels.

    Examples
    --------
    >>> import normcore.jax as nj
    >>> _, statistics = nj.batch_norm([[1.0], [3.0]])
    >>> type(statistics).__name__, float(statistics.mean[0]), float(statistics.count)
    ('BatchStatistics', 2.0, 2.0)
    """

    mean: jax.Array
    var: jax.Array
    count: jax.Array


BatchStatistics.__module__ = "normcore.jax"


def batch_norm(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    axis: int = 1,
    eps: float = 1e-5,
    mask: ArrayLike | None = None,
    precision: str | None = None,
) -> tuple[jax.Array, BatchStatistics]:
    """Normalize a batch with its own statistics, as :func:`normcore.functional.batch_norm` does.

    Parameters
    ----------
    x : array of two or more dimensions
    gamma, beta : array of shape (C,), optional
        Scale and shift; None stands for 1 and 0.
    axis : int
        The channel axis.
    eps : float
        Added to the variance.
    mask : array of bool, optional
        Which positions count, of shape ``(N,)`` for samples or of the shape of `x` without the
        channel axis. The others stay out of the statistics, and y is 0 there.
    precision : {"exact", "native"}, optional
        Overrides that of the context (:func:`normcore.use_precision`), which is asked while a
        program is traced.

    Returns
    -------
    y : array
        Of the shape of `x`. Floats keep their dtype, integers and booleans become float64 where
        JAX has it, else float32.
    statistics : BatchStatistics
        Of the batch.

    Raises
    ------
    TypeError
        If `x` is not numeric and real, or an option is an array of a traced program.
    ValueError
        If a channel has fewer than two values; if `gamma`, `beta`, `axis`, `eps` or `mask` do not
        fit.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import normcore.jax as nj
    >>> y, statistics = nj.batch_norm(jnp.array([[0.0, 2.0], [4.0, 2.0]]), eps=1e-12)
    >>> y.tolist(), statistics.var.tolist()
    ([[-1.0, 0.0], [1.0, 0.0]], [4.0, 0.0])
    """
    x = _array("batch_norm", "x", x)
    y, mean, var = _normalized(
        "batch_norm", {"x": x, "gamma": gamma, "beta": beta, "mask": mask}, eps, precision,
        axis=axis,
    )  # fmt: skip
    values = x.size // max(x.shape[axis], 1)
    count = jnp.asarray(values, mean.dtype)
    if mask is not None:
        mask = jnp.asarray(mask)
        count = jnp.sum(mask, dtype=mean.dtype) * (values // max(mask.size, 1))
    return y, BatchStatistics(mean, var, count)


def batch_norm_inference(
    x: ArrayLike,
    mean: ArrayLike,
    var: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    axis: int = 1,
    eps: float = 1e-5,
    mask: ArrayLike | None = None,
    precision: str | None = None,
) -> jax.Array:
    """Normalize with given statistics, of which the result has derivatives too.

    Parameters
    ----------
    mean, var : array of shape (C,)
        Running or population statistics.
    x, gamma, beta, axis, eps, mask, precision
        As for :func:`batch_norm`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import normcore.jax as nj
    >>> mean, var = jnp.array([1.0, 2.0]), jnp.array([4.0, 1.0])
    >>> nj.batch_norm_inference(jnp.array([[3.0, 4.0]]), mean, var, eps=1e-12).tolist()
    [[1.0, 2.0]]
    """
    arrays = {"x": x, "mean": mean, "var": var, "gamma": gamma, "beta": beta, "mask": mask}
    return _normalized("batch_norm_inference", arrays, eps, precision, axis=axis)[0]


def layer_norm(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    gamma_offset: float = 0.0,
    num_axes: int = 1,
    eps: float = 1e-5,
    precision: str | None = None,
) -> jax.Array:
    """Normalize each sample over its last axes, as :func:`normcore.functional.layer_norm` does.

    Parameters
    ----------
    x : array of at least `num_axes` dimensions
    gamma, beta : array of the shape of the last axes of `x`, optional
        Scale and shift; None stands for 1 and 0.
    gamma_offset : float
        Added in float64 to a `gamma` that is given: 1 where a model keeps gamma - 1.
    num_axes : int
        How many axes make up a sample.
    eps, precision
        As for :func:`batch_norm`.

    Examples
    --------
    >>> import jax
    >>> import normcore.jax as nj
    >>> jax.jit(lambda x: nj.layer_norm(x, eps=1e-12))(jax.numpy.array([[1.0, 5.0]])).tolist()
    [[-1.0, 1.0]]
    """
    return _normalized(
        "layer_norm", {"x": x, "gamma": gamma, "beta": beta}, eps, precision,
        num_axes=num_axes, gamma_offset=gamma_offset,
    )[0]  # fmt: skip


def rms_norm(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    *,
    gamma_offset: float = 0.0,
    num_axes: int = 1,
    eps: float = 1e-5,
    precision: str | None = None,
) -> jax.Array:
    """Divide each sample by its root mean square; parameters are those of :func:`layer_norm`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import normcore.jax as nj
    >>> nj.rms_norm(jnp.array([[1.0, 7.0]]), 5 * jnp.ones(2), eps=1e-12).tolist()
    [[1.0, 7.0]]
    """
    return _normalized(
        "rms_norm", {"x": x, "gamma": gamma}, eps, precision,
        num_axes=num_axes, gamma_offset=gamma_offset,
    )[0]  # fmt: skip


def group_norm(
    x: ArrayLike,
    num_groups: int,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    axis: int = 1,
    eps: float = 1e-5,
    precision: str | None = None,
) -> jax.Array:
    """Normalize groups of channels of each sample, as :func:`normcore.functional.group_norm` does.

    Parameters
    ----------
    num_groups : int
        Divides the number of channels.
    x, gamma, beta, axis, eps, precision
        As for :func:`batch_norm`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import normcore.jax as nj
    >>> nj.group_norm(jnp.array([[1.0, 3.0, 5.0, 5.0]]), 2, eps=1e-12).tolist()
    [[-1.0, 1.0, 0.0, 0.0]]
    """
    return _normalized(
        "group_norm", {"x": x, "gamma": gamma, "beta": beta}, eps, precision,
        num_groups=num_groups, axis=axis,
    )[0]  # fmt: skip


def instance_norm(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    axis: int = 1,
    eps: float = 1e-5,
    precision: str | None = None,
) -> jax.Array:
    """Normalize each channel of each sample: :func:`group_norm` with one channel to a group.

    Parameters
    ----------
    x, gamma, beta, axis, eps, precision
        As for :func:`group_norm`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import normcore.jax as nj
    >>> nj.instance_norm(jnp.array([[[1.0, 3.0], [0.0, 8.0]]]), eps=1e-12).tolist()
    [[[-1.0, 1.0], [-1.0, 1.0]]]
    """
    x = _array("instance_norm", "x", x)
    inside = -x.ndim <= check_integer("axis", axis) < x.ndim  # else group_norm says so
    channels = x.shape[axis] if inside else 1
    return group_norm(x, channels, gamma, beta, axis=axis, eps=eps, precision=precision)


_NUMPY = np.empty(0)
#: Arrays that every function which has them needs.
_NEEDED = ("x", "mean", "var")


def _array(function: str, name: str, array: ArrayLike | None) -> jax.Array:
    if array is None:
        raise TypeError(f"{name} of {function} must be an array, not None")
    return jnp.asarray(array)


def _normalized(
    name: str,
    arrays: dict[str, ArrayLike | None],
    eps: float,
    precision: str | None,
    *,
    gamma_offset: float = 0.0,
    **integers: int,
) -> tuple[jax.Array, ...]:
    integers = {each: check_integer(each, value) for each, value in integers.items()}
    offset = check_offset(gamma_offset)
    given = {
        each: _array(name, each, array)
        for each, array in arrays.items()
        if array is not None or each in _NEEDED
    }
    operands = dict(zip(given, aligned(list(given.values())), strict=True))
    how = Normalization(
        name, tuple(given), check_eps(eps), resolved(precision), select_backend(_NUMPY),
        gamma_offset=offset, **integers,
    )  # fmt: skip
    return normalized(how, operands)
