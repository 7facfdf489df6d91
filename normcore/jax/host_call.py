"""The primitive by which JAX's programs call the core.

`jax.pure_callback` would do, but it makes arrays of JAX's of what it is given, inside of a program
that runs: with large arrays, or on one processor, both wait for each other for good. The lowering
beneath it hands out views of XLA's memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir
from jax.sharding import NamedSharding, PartitionSpec

from normcore.layout.bfloat16 import cast

__all__ = ["HostCall", "aligned", "call_host"]


class HostCall(NamedTuple):
    """What is to be called, without the arrays; hashable, as its parts are."""

    #: Takes NumPy arrays, which are only read.
    compute: Callable[..., Sequence[np.ndarray]]
    #: What it returns; other dtypes are rounded to these.
    results: tuple[jax.ShapeDtypeStruct, ...]
    #: Raises where operands of such shapes and dtypes do not fit, while a program is traced.
    check: Callable[..., None] | None = None
    #: For each `vmap`, the outermost first, which operands it maps over: along their first axes.
    mapped: tuple[tuple[bool, ...], ...] = ()

    def sizes(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """Return how many there are of what each `vmap` maps over."""
        sizes = []
        for level in self.mapped:
            sizes.append(next(shape[0] for shape, on in zip(shapes, level, strict=True) if on))
            shapes = [shape[1:] if on else shape for shape, on in zip(shapes, level, strict=True)]
        return tuple(sizes)

    def run(self, *operands: np.ndarray) -> Sequence[np.ndarray]:
        """Compute, once for each combination of what is mapped over."""
        if not self.mapped:
            made = self.compute(*operands)
            return [
                each if each.dtype == result.dtype else cast(each, result.dtype)
                for each, result in zip(made, self.results, strict=True)
            ]
        level, *rest = self.mapped
        inner = self._replace(mapped=tuple(rest))
        sizes = self.sizes([each.shape for each in operands])
        stacks = [np.empty((*sizes, *each.shape), each.dtype) for each in self.results]
        for index in range(sizes[0]):
            one = (each[index] if on else each for each, on in zip(operands, level, strict=True))
            for stack, part in zip(stacks, inner.run(*one), strict=True):
                stack[index] = part
        return stacks


_host_call = Primitive("normcore")
_host_call.multiple_results = True


def call_host(call: HostCall, *operands: jax.Array) -> list[jax.Array]:
    """Call a function on the host: at once, or when the program runs that is traced."""
    made: list[jax.Array] = _host_call.bind(*aligned(operands), call=call)
    return made


def aligned(operands: Sequence[jax.Array]) -> list[jax.Array]:
    """Have all operands vary over the axes of a mesh over which one does, in `jax.shard_map`."""
    varying = [jax.typeof(each).manual_axis_type.varying for each in operands]
    everywhere = frozenset().union(*varying)
    return [
        jax.lax.pcast(each, tuple(everywhere - own), to="varying") if own != everywhere else each
        for each, own in zip(operands, varying, strict=True)
    ]


@lru_cache
def _compiled(call: HostCall) -> Callable[..., list[jax.Array]]:
    compiled: Callable[..., list[jax.Array]] = jax.jit(partial(_host_call.bind, call=call))
    return compiled


@_host_call.def_impl
def _eager(*operands: jax.Array, call: HostCall) -> list[jax.Array]:
    """Run at once; without a program of XLA's where the operands lie in the host's memory."""
    operands = tuple(map(jnp.asarray, operands))  # constants may be NumPy's
    devices = {device for each in operands for device in each.devices()}
    if len(devices) > 1 or devices.pop().platform != "cpu":
        return _compiled(call)(*operands)
    place = operands[0].sharding if any(each.committed for each in operands) else None
    return [jax.device_put(each, place) for each in call.run(*map(np.asarray, operands))]


@_host_call.def_abstract_eval
def _abstract(*operands: ShapedArray, call: HostCall) -> list[ShapedArray]:
    """Return what results are: whole on each device of a mesh, or varying as the operands do."""
    if call.check is not None:
        depths = [sum(on) for on in zip(*call.mapped, strict=True)] or [0] * len(operands)
        call.check(
            *(
                np.broadcast_to(np.ones((), each.dtype), each.shape[depth:])  # takes no memory
                for each, depth in zip(operands, depths, strict=True)
            )
        )
    sizes = call.sizes([each.shape for each in operands])
    mesh, varying = operands[0].sharding.mesh, operands[0].manual_axis_type

    def result(each: jax.ShapeDtypeStruct) -> ShapedArray:
        shape = (*sizes, *each.shape)
        whole = NamedSharding(mesh, PartitionSpec(*[None] * len(shape)))
        return ShapedArray(shape, each.dtype, sharding=whole, manual_axis_type=varying)

    return [result(each) for each in call.results]


def _batch(
    operands: Sequence[jax.Array], axes: Sequence[int | None], *, call: HostCall
) -> tuple[list[jax.Array], list[int]]:
    """Map over one axis more, which goes first, within the one call."""
    moved = [
        each if axis is None else jnp.moveaxis(each, axis, 0)
        for each, axis in zip(operands, axes, strict=True)
    ]
    level = tuple(axis is not None for axis in axes)
    made = call_host(call._replace(mapped=(level, *call.mapped)), *moved)
    return made, [0] * len(made)


def _lower(
    context: mlir.LoweringRuleContext, *operands: mlir.Value, call: HostCall
) -> Sequence[mlir.Value]:
    made: Sequence[mlir.Value]
    made, _, _ = mlir.emit_python_callback(
        context, call.run, None, list(operands), context.avals_in, context.avals_out,
        has_side_effect=False, returns_token=False,
    )  # fmt: skip
    return made


batching.primitive_batchers[_host_call] = _batch
mlir.register_lowering(_host_call, _lower, cacheable=False)
