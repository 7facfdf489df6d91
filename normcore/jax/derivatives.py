"""Normalizations with their derivatives: the first one by the core, the next ones by formulas.

The passes of the core, forward and backward, are functions whose tangents are those of the
formulas; so they can be differentiated in turn, in forward and reverse mode, any number of times.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import jax
import numpy as np
from jax import numpy as jnp

from normcore.jax.host_call import HostCall, aligned, call_host
from normcore.jax.normalization import (
    Normalization,
    Operands,
    result_dtype,
    statistics_dtype,
)

__all__ = ["normalized"]

#: y; of a batch mean and variance too.
Results: TypeAlias = tuple[jax.Array, ...]


def normalized(how: Normalization, operands: Operands) -> Results:
    """Normalize; results have derivatives by each operand of floats."""
    if any(isinstance(each, jax.core.Tracer) for each in operands.values()):
        operands = {name: _of_jax(each) for name, each in operands.items()}
        y, *statistics = _differentiable(how, operands)
        return (y, *_with_derivatives(how, operands, statistics)) if statistics else (y,)
    return _plain(how, operands)  # of which JAX's machinery would take many times as long


def _of_jax(operand: jax.Array) -> jax.Array:
    """Return an operand; one that `vmap` made of an array of NumPy's as the result of operations.

    JAX does not take constants of NumPy's out of functions with derivatives of their own.
    """
    inner: object = operand
    while isinstance(inner, jax.core.Tracer):
        inner = getattr(inner, "val", getattr(inner, "primal", None))
    if not isinstance(inner, np.ndarray):
        return operand
    return jax.lax.squeeze(jax.lax.expand_dims(operand, (0,)), (0,))


def _plain(how: Normalization, operands: Operands) -> Results:
    call = HostCall(how.forward, _results(how, operands), how.check)
    return tuple(call_host(call, *_ordered(how, operands)))


_differentiable = jax.custom_vjp(_plain, nondiff_argnums=(0,))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _with_derivatives(
    how: Normalization, operands: Operands, statistics: list[jax.Array]
) -> list[jax.Array]:
    """Return the statistics of a batch; few have a use for their derivatives, which are apart."""
    return statistics


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _forward(how: Normalization, operands: Operands) -> tuple[Results, jax.Array]:
    """Return the results, and what the backward pass wants to know of them."""
    number = how.number_of_moments(operands["x"].shape)
    results = *_results(how, operands), jax.ShapeDtypeStruct((7, 2 * number), np.uint32)
    call = HostCall(how.forward_with_parts, results, how.check)
    *made, parts = call_host(call, *_ordered(how, operands))
    return tuple(made), parts


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _backward(how: Normalization, dy: jax.Array, operands: Operands, parts: jax.Array) -> Operands:
    """Return the gradients of all operands of floats, for one of y."""
    floats = [each for each in how.names if jnp.issubdtype(operands[each].dtype, jnp.floating)]
    results = [jax.ShapeDtypeStruct(operands[each].shape, operands[each].dtype) for each in floats]
    call = HostCall(how.backward, tuple(results))
    return dict(zip(floats, call_host(call, dy, *_ordered(how, operands), parts), strict=True))


def _ordered(how: Normalization, operands: Operands) -> list[jax.Array]:
    return [operands[name] for name in how.names]


def _results(how: Normalization, operands: Operands) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Describe what a forward pass returns."""
    x = operands["x"]
    y = jax.ShapeDtypeStruct(x.shape, result_dtype(x))
    if not how.of_batch:
        return (y,)
    statistic = jax.ShapeDtypeStruct((how.number_of_moments(x.shape),), statistics_dtype())
    return y, statistic, statistic


def _formula(
    how: Normalization, operands: Operands
) -> tuple[Operands, Callable[[Operands], Results]]:
    """Return the operands of floats, and the normalization as a function of them."""
    floats = {
        name: each for name, each in operands.items() if jnp.issubdtype(each.dtype, jnp.floating)
    }
    return floats, lambda floats: how.formula({**operands, **floats})


@_forward.defjvp
def _tangent_of_forward(
    how: Normalization, primals: tuple[Operands], tangents: tuple[Operands]
) -> tuple[tuple[Results, jax.Array], tuple[Results, jax.Array]]:
    (operands,), (dots,) = primals, tangents
    floats, formula = _formula(how, operands)
    results, parts = _forward(how, operands)
    _, tangent = jax.jvp(formula, (floats,), ({each: dots[each] for each in floats},))
    # Varies over the axes of a mesh as the parts do, which NumPy's zeros do not by themselves.
    none, _ = aligned([np.zeros(parts.shape, jax.dtypes.float0), parts])
    return (results, parts), (tangent, none)


@_backward.defjvp
def _tangent_of_backward(
    how: Normalization,
    primals: tuple[jax.Array, Operands, jax.Array],
    tangents: tuple[jax.Array, Operands, jax.Array],
) -> tuple[Operands, Operands]:
    (dy, operands, parts), (dy_dot, dots, _) = primals, tangents
    floats, formula = _formula(how, operands)

    def pullback(dy: jax.Array, floats: Operands) -> Operands:
        _, pull = jax.vjp(lambda floats: formula(floats)[0], floats)
        found: Operands = pull(dy)[0]
        return found

    _, tangent = jax.jvp(pullback, (dy, floats), (dy_dot, {each: dots[each] for each in floats}))
    return _backward(how, dy, operands, parts), tangent


def _ahead(how: Normalization, operands: Operands) -> tuple[Results, tuple[Operands, jax.Array]]:
    results, parts = _forward(how, operands)
    return results, (operands, parts)


def _back(
    how: Normalization, kept: tuple[Operands, jax.Array], cotangents: Results
) -> tuple[dict[str, jax.Array | None]]:
    operands, parts = kept
    gradients = _backward(how, cotangents[0], operands, parts)
    return ({name: _as(gradients.get(name), each) for name, each in operands.items()},)


def _as(gradient: jax.Array | None, operand: jax.Array) -> jax.Array | None:
    """Have a gradient lie as its operand on a mesh of explicit axes."""
    place = jax.typeof(operand).sharding
    if gradient is None or jax.typeof(gradient).sharding == place:
        return gradient
    return jax.reshard(gradient, place)


def _ahead_of_statistics(
    how: Normalization, operands: Operands, statistics: list[jax.Array]
) -> tuple[list[jax.Array], Operands]:
    return statistics, operands


def _back_of_statistics(
    how: Normalization, operands: Operands, cotangents: list[jax.Array]
) -> tuple[dict[str, jax.Array | None], None]:
    x = operands["x"]
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return dict.fromkeys(operands), None
    floats, formula = _formula(how, operands)
    _, pull = jax.vjp(lambda x: formula({**floats, "x": x})[1:], x)
    return {**dict.fromkeys(operands), "x": _as(pull(tuple(cotangents))[0], x)}, None


_differentiable.defvjp(_ahead, _back)
_with_derivatives.defvjp(_ahead_of_statistics, _back_of_statistics)
