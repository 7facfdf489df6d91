"""Normalizations of JAX's arrays, computed on the host by normcore's kernels.

They work in `jax.jit`, `jax.grad`, `jax.vmap` and `jax.shard_map`, with derivatives of any order in
reverse mode; in `jax.shard_map` with those of the second order within `jax.jit`. On the host each
is one call of the core, which reads XLA's memory. On a device the arrays would travel to the host
and back: there XLA's own operations are the choice.
"""

from normcore.package.needed_library import needed

with needed("normcore.jax needs JAX", "jax", "jax", "jaxlib"):
    from normcore.jax.functions import (
        BatchStatistics,
        batch_norm,
        batch_norm_inference,
        group_norm,
        instance_norm,
        layer_norm,
        rms_norm,
    )

__all__ = [
    "BatchStatistics",
    "batch_norm",
    "batch_norm_inference",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "rms_norm",
]
