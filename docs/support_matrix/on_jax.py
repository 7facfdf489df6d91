"""normcore.jax: every function in every dtype, and what JAX makes of it.

Results have the bits of the core's; second derivatives are compared with differences of first ones.
"""

from collections.abc import Callable

import jax
import numpy as np
from jax import numpy as jnp
from jax_examples import EXAMPLES, Example, draw, result

import normcore as nc
from support_matrix.inputs import typed
from support_matrix.scalers import NO, REFUSALS, YES

__all__ = ["FUNCTIONS", "FUNCTION_DTYPES", "FUNCTION_FEATURES", "function_row"]

#: Of each function the call with most arrays.
FUNCTIONS: dict[str, Example] = {
    name: max((each for each in EXAMPLES if each.name == name), key=lambda each: len(each.shapes))
    for name in dict.fromkeys(each.name for each in EXAMPLES)
}
FUNCTION_DTYPES = ("float64", "float32", "float16", "bfloat16", "int32", "bool")


def core(example: Example, **arrays: np.ndarray) -> np.ndarray:
    """Return the result of the core's function."""
    found = example.of(nc.functional)(**arrays)
    return found[0] if isinstance(found, tuple) else found


def same(found: object, right: np.ndarray, where: str, loose: float = 0.0) -> None:
    """Raise an error for other numbers than the core's."""
    found = np.asarray(found)
    if found.shape != right.shape or not np.allclose(
        found.astype(float), right.astype(float), rtol=loose, atol=loose
    ):
        raise AssertionError(f"wrong numbers: {where}")


def function_dtype(name: str, dtype: str) -> str:
    """Return the dtype of a function's results, or that there are none."""
    example = FUNCTIONS[name]
    arrays = {**example.arrays("float64"), "x": typed(example.arrays("float64")["x"], dtype, 0.5)}
    try:
        found = result(example, arrays)
    except REFUSALS:
        return NO
    same(found, core(example, **arrays), f"{name}, {dtype}")
    return found.dtype.name


def compiled(example: Example, arrays: dict[str, np.ndarray]) -> None:
    found = jax.jit(lambda arrays: result(example, arrays))(arrays)
    same(found, core(example, **arrays), f"{example}, jit")


def mapped(example: Example, arrays: dict[str, np.ndarray]) -> None:
    x = np.stack([arrays["x"], 2 * arrays["x"] + 1])
    found = jax.vmap(lambda x: result(example, {**arrays, "x": x}))(x)
    right = np.stack([core(example, **{**arrays, "x": each}) for each in x])
    same(found, right, f"{example}, vmap")


def repeated(example: Example, arrays: dict[str, np.ndarray]) -> None:
    def step(x: object, _: object) -> tuple[object, None]:
        return jax.checkpoint(lambda x: result(example, {**arrays, "x": x}))(x), None

    right = core(example, **{**arrays, "x": core(example, **arrays)})
    same(jax.lax.scan(step, arrays["x"], length=2)[0], right, f"{example}, scan")


def slope(example: Example, arrays: dict[str, np.ndarray]) -> Callable[[object], object]:
    """Return the gradient of a loss by x."""
    dy = draw(arrays["x"].shape, "float64", 9)

    def loss(x: object) -> object:
        return jnp.sum(jnp.sin(result(example, {**arrays, "x": x})) * dy)

    return jax.jit(jax.grad(loss))


def gradient(example: Example, arrays: dict[str, np.ndarray]) -> None:
    x, dy = arrays["x"], draw(arrays["x"].shape, "float64", 9)
    step, along = 1e-5, draw(x.shape, "float64", 8)

    def loss(x: np.ndarray) -> float:
        return float(np.sum(np.sin(core(example, **{**arrays, "x": x})) * dy))

    found = np.sum(np.asarray(slope(example, arrays)(x)) * along)
    right = (loss(x + step * along) - loss(x - step * along)) / (2 * step)
    same(found, np.asarray(right), f"{example}, grad", 1e-7)


def curvature(example: Example, arrays: dict[str, np.ndarray]) -> None:
    x, first = arrays["x"], slope(example, arrays)
    step, along = 1e-5, draw(x.shape, "float64", 8)
    second = jax.grad(lambda x: jnp.sum(first(x) * along))(x)
    right = (np.asarray(first(x + step * along)) - np.asarray(first(x - step * along))) / (2 * step)
    same(second, right, f"{example}, hessian", 1e-7)


def forward_mode(example: Example, arrays: dict[str, np.ndarray]) -> None:
    jax.jvp(lambda x: result(example, {**arrays, "x": x}), (arrays["x"],), (arrays["x"],))


def exported(example: Example, arrays: dict[str, np.ndarray]) -> None:
    jax.export.export(jax.jit(lambda arrays: result(example, arrays)))(arrays)


def in_shards(example: Example, arrays: dict[str, np.ndarray]) -> None:
    spec = jax.sharding.PartitionSpec()
    on_mesh = jax.shard_map(
        lambda arrays: result(example, arrays),
        mesh=jax.make_mesh((1,), ("device",)), in_specs=(spec,), out_specs=spec,
    )  # fmt: skip
    same(jax.jit(on_mesh)(arrays), core(example, **arrays), f"{example}, shard_map")


#: What is tried with each function in float64; each compares what it finds.
FUNCTION_FEATURES: dict[str, Callable[[Example, dict[str, np.ndarray]], None]] = {
    "`jit`": compiled,
    "`vmap`": mapped,
    "`scan`, `checkpoint`": repeated,
    "`shard_map`": in_shards,
    "`grad`": gradient,
    "second derivatives": curvature,
    "`jvp`": forward_mode,
    "`jax.export`": exported,
}


def function_feature(name: str, feature: str) -> str:
    """Return whether JAX does something with a function, having compared results."""
    example = FUNCTIONS[name]
    try:
        FUNCTION_FEATURES[feature](example, example.arrays("float64"))
    except REFUSALS:
        return NO
    return YES


def function_row(name: str) -> list[str]:
    """Return one row: the dtype of results for each dtype of x, and what JAX does."""
    return [
        *(function_dtype(name, dtype) for dtype in FUNCTION_DTYPES),
        *(function_feature(name, feature) for feature in FUNCTION_FEATURES),
    ]
