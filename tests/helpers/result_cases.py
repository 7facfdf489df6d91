"""Computations whose bits are held: arrays, and what is done with them, by public names alone.

Arrays are made of integers that a hash of a counter gives and of exact arithmetic, so that they
are the same with any version of NumPy and of the C library.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import normcore as nc

F = nc.functional
FLOATS = ("float16", "float32", "float64")


class Data(NamedTuple):
    """An array of a shape, dtype, layout in memory and kind of values."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    layout: str = "C"
    values: str = "plain"
    axis: int = 1

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"{shape} axis {self.axis} {self.dtype} {self.layout} {self.values}"

    @property
    def channels(self) -> int:
        return self.shape[self.axis]

    @property
    def positions(self) -> tuple[int, ...]:
        """The shape without the channel axis."""
        return tuple(size for axis, size in enumerate(self.shape) if axis != self.axis)

    def array(self) -> np.ndarray:
        seed = zlib.crc32(f"{self.shape} {self.axis} {self.values}".encode())
        return laid_out(drawn(self, self.dtype, self.values, seed), self.layout, self.axis)

    def gradient(self) -> np.ndarray:
        """Return one of the dtype of y, in the layout of x."""
        dtype = self.dtype if self.dtype in FLOATS else "float64"
        values = self.values if self.values in ("tiny", "huge") else "plain"
        return laid_out(drawn(self, dtype, values, 77), self.layout, self.axis)


def integers(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return uint64 of which each bit is random (SplitMix64: Steele, Lea and Flood, 2014)."""
    z = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) + np.uint64(seed << 32)
    z *= np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))).reshape(shape)


def uniform(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return float64 in [0, 1)."""
    return (integers(shape, seed) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def bell(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return float64 in (-4, 4), near 0 for the most part: sums of four 16-bit integers."""
    z = integers(shape, seed)
    total = sum((z >> np.uint64(16 * part)) & np.uint64(0xFFFF) for part in range(4))
    return (total.astype(np.float64) - 2.0**17) * 2.0**-15


def drawn(data: Data, dtype: str, values: str, seed: int) -> np.ndarray:
    """Return values in C order."""
    kind = np.dtype(dtype)
    if kind.kind in "biu":
        z = integers(data.shape, seed)
        return z % np.uint64(5) < 2 if kind.kind == "b" else z.astype(kind)
    channel = np.arange(data.channels, dtype=np.float64).reshape(
        [-1 if axis == data.axis else 1 for axis in range(len(data.shape))]
    )
    x = bell(data.shape, seed) * (1.0 + channel % 7) + channel % 11
    u = uniform(data.shape, seed + 1)
    exponent = {"float16": 9, "float32": 100, "float64": 600}[dtype]
    if values == "offset":
        x += 1000.0 if dtype == "float16" else 1e7
    elif values == "tiny":
        x *= 2.0 ** (-exponent - (10 if dtype == "float16" else 20))
    elif values == "huge":
        x *= 2.0**exponent
    elif values == "nan":
        x[u < 0.03] = np.nan
        np.moveaxis(x, data.axis, 0)[-1] = np.nan
    elif values == "infinite":
        x[u < 0.002] = np.inf
        x[u > 0.999] = -np.inf
    elif values == "constant":
        x = np.broadcast_to((channel + 1.0) / 10.0, data.shape)
    elif values == "zeros":
        x[u < 0.8] = 0.0
        x[u < 0.4] = -0.0
    elif values == "ties":
        x = np.floor(x)
    return x.astype(dtype, order="C")


def laid_out(x: np.ndarray, layout: str, axis: int) -> np.ndarray:
    """Return the same values in another layout."""
    if layout == "F":
        return np.asfortranarray(x)
    if layout == "strided":
        around = np.empty((2 * x.shape[0], *x.shape[1:-1], 3 * x.shape[-1]), x.dtype)
        view = around[1::2, ..., ::3]
    elif layout == "permuted":
        view = np.moveaxis(np.empty(np.moveaxis(x, axis, -1).shape, x.dtype), -1, axis)
    elif layout == "reversed":
        view = np.empty_like(x)[::-1, ..., ::-1]
    elif layout == "unaligned":
        memory = np.empty(x.nbytes + 1, np.uint8)[1:]
        view = memory.view(x.dtype).reshape(x.shape)
    elif layout == "swapped":
        return x.astype(x.dtype.newbyteorder())
    else:
        return x
    view[...] = x
    return view


class Case(NamedTuple):
    """A computation: called with a backend, it gives arrays, statistics, or nests of them."""

    name: str
    compute: Callable[[Any], Any]


# Statistics and scalers, of matrices.


def statistics(x: np.ndarray, data: Data) -> Iterator[Case]:
    weights = np.floor(uniform(data.positions[:1], 5) * 4.0) / 2.0
    plane = uniform(data.positions, 6)
    q = (0.0, 0.1, 0.5, 0.75, 1.0)
    plain: list[dict[str, Any]] = [
        {"channel_axis": data.axis},
        {"channel_axis": data.axis, "skipna": True},
        {"channel_axis": None, "skipna": True},
    ]
    weighted = [{**plain[1], "weights": weights}, {**plain[0], "weights": plane}]
    yield Case("moments", lambda on: [F.moments(x, backend=on, **o) for o in plain + weighted])
    yield Case("extrema", lambda on: [F.extrema(x, backend=on, **o) for o in plain])
    yield Case("quantiles", lambda on: [F.quantiles(x, q, backend=on, **o) for o in plain])
    yield Case(
        "weighted quantiles", lambda on: [F.quantiles(x, q, backend=on, **o) for o in weighted]
    )


SCALERS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "StandardScaler": (nc.StandardScaler, ("mean_", "var_", "scale_", "n_samples_seen_")),
    "MinMaxScaler": (nc.MinMaxScaler, ("data_min_", "data_max_", "min_", "scale_")),
    "RobustScaler": (nc.RobustScaler, ("center_", "scale_")),
    "MaxAbsScaler": (nc.MaxAbsScaler, ("max_abs_", "scale_")),
}
VARIANTS: dict[str, dict[str, Any]] = {
    "StandardScaler": {"with_mean": False},
    "MinMaxScaler": {"feature_range": (-3.0, 0.7), "clip": True},
    "RobustScaler": {"quantile_range": (10.0, 80.0), "unit_variance": True},
}


def scalers(x: np.ndarray, data: Data) -> Iterator[Case]:
    weights = np.floor(uniform(data.shape[:1], 7) * 3.0)
    third = max(data.shape[0] // 3, 1)
    first, *parts = (each for each in (x[:third], x[third:-third], x[-third:]) if len(each))

    def mapped(scaler: Any, attributes: tuple[str, ...]) -> Any:
        y = scaler.transform(x)
        out = np.full_like(y, 3)
        scaler.transform(x, out=out)
        state = [getattr(scaler, each) for each in attributes]
        return state, y, out, scaler.inverse_transform(y)

    def fitted(on: Any, kind: Any, attributes: tuple[str, ...], options: Any) -> Any:
        plain, variant = kind(backend=on), kind(backend=on, **options)
        return [mapped(each.fit(x), attributes) for each in (plain, variant)]

    def weighted(on: Any) -> Any:
        scaler = nc.StandardScaler(backend=on).fit(x, sample_weight=weights)
        return mapped(scaler, SCALERS["StandardScaler"][1])

    def merged(on: Any, kind: Any, attributes: tuple[str, ...]) -> Any:
        scaler = kind(backend=on).partial_fit(first)
        for part in parts[:-1]:
            scaler.partial_fit(part)
        return mapped(scaler.merge(kind(backend=on).partial_fit(parts[-1])), attributes)

    if data.values == "infinite":  # which they refuse
        return
    for name, (kind, attributes) in SCALERS.items():
        options = VARIANTS.get(name, {})
        yield Case(name, lambda on, k=kind, a=attributes, o=options: fitted(on, k, a, o))
        if name != "RobustScaler":
            yield Case(f"{name} merged", lambda on, k=kind, a=attributes: merged(on, k, a))
    yield Case("StandardScaler weights", weighted)


# Normalization inside a network, of any array.


def batch_norms(x: np.ndarray, data: Data) -> Iterator[Case]:
    dy = data.gradient()
    num_channels, num_samples = data.channels, data.positions[0]
    gamma, beta, mean, var = (uniform((num_channels,), seed) + 0.25 for seed in (11, 12, 13, 14))
    gamma = gamma * np.where(np.arange(num_channels) % 5 == 4, -1.0, 1.0)
    mask = uniform(data.positions, 15) < 0.8
    mask[:2] = True  # a variance takes two values
    labels = (integers((num_samples,), 16) % np.uint64(3)).astype(np.int64)
    skip, size = {"single": "skip"}, max(5, num_samples // 7)

    def both(on: Any, *parameters: Any, **options: Any) -> Any:
        options |= {"axis": data.axis, "backend": on}
        y, moments = F.batch_norm(x, *parameters, **options)
        options.pop("single", None)
        return y, moments, F.batch_norm_backward(dy, x, moments, *parameters, **options)

    def in_place(on: Any) -> Any:
        options = {"axis": data.axis, "backend": on}
        y, gradient = x.copy(order="K"), dy.copy(order="K")
        _, moments = F.batch_norm(y, gamma, beta, out=y, **options)
        back = F.batch_norm_backward(gradient, x, moments, gamma, beta, out=gradient, **options)
        return y, back

    def inference(on: Any) -> Any:
        options = {"axis": data.axis, "backend": on}
        relu = {**options, "activation": "relu", "mask": mask}
        fixed = nc.Moments.of(1, mean, var)
        return (
            F.batch_norm_inference(x, mean, var, **options),
            F.batch_norm_inference(x, mean, var, gamma, beta, **relu),
            F.batch_norm_backward(dy, x, fixed, gamma, beta, training=False, **options),
            F.batch_norm_backward(dy, x, fixed, gamma, beta, training=False, **relu),
        )

    def renorm(on: Any, **options: Any) -> Any:
        options = {"axis": data.axis, "r_max": 1.5, "d_max": 0.5, "backend": on, **options}
        y, moments = F.batch_renorm(x, mean, var, gamma, beta, **options)
        back = F.batch_renorm_backward(dy, x, moments, mean, var, gamma, beta, **options)
        return y, moments, back

    def layer(on: Any, **options: Any) -> Any:
        norm = nc.BatchNorm(num_channels, axis=data.axis, momentum=0.3, backend=on, **options)
        norm.gamma, norm.beta = gamma, beta
        steps = [(norm(each), norm.backward(dy)) for each in (x, x[::-1])]
        running = norm.running_mean, norm.running_var
        return steps, running, norm.eval()(x), norm.backward(dy)

    norm = gamma, beta
    relu = {"activation": "relu"}
    yield Case("batch_norm", lambda on: [both(on), both(on, *norm)])
    yield Case("batch_norm relu", lambda on: both(on, *norm, **relu))
    yield Case("batch_norm mask", lambda on: [both(on, *norm, mask=mask, **o) for o in ({}, relu)])
    yield Case("batch_norm virtual", lambda on: both(on, *norm, virtual_batch_size=size, **skip))
    yield Case("batch_norm groups", lambda on: both(on, *norm, groups=labels, mask=mask, **skip))
    if x.dtype == dy.dtype and x.dtype.isnative:
        yield Case("batch_norm in place", in_place)
    yield Case("inference", inference)
    yield Case("renorm", lambda on: [renorm(on), renorm(on, mask=mask, eps=1e-3)])
    yield Case("BatchNorm", lambda on: layer(on))
    yield Case("BatchNorm relu renorm", lambda on: layer(on, r_max=3, d_max=1, **relu))


def layer_norms(x: np.ndarray, data: Data) -> Iterator[Case]:
    dy = data.gradient()
    vectors = [uniform((data.channels,), seed) + 0.25 for seed in (21, 22)]
    num_groups = next(each for each in (4, 3, 2, 1) if data.channels % each == 0)

    def rows(on: Any, num_axes: int) -> Any:
        gamma, beta = (uniform(data.shape[-num_axes:], seed) + 0.25 for seed in (23, 24))
        options = {"num_axes": num_axes, "backend": on}
        y, moments = F.layer_norm(x, gamma, beta, **options)
        bare, _ = F.layer_norm(x, **options)
        return y, bare, moments, F.layer_norm_backward(dy, x, moments, gamma, **options)

    def rms(on: Any, num_axes: int) -> Any:
        gamma = uniform(data.shape[-num_axes:], 25) + 0.25
        y, moments = F.rms_norm(x, gamma, num_axes=num_axes, backend=on)
        back = F.rms_norm_backward(dy, x, moments, gamma, num_axes=num_axes, backend=on)
        return y, moments, back

    def group(on: Any) -> Any:
        options = {"axis": data.axis, "backend": on}
        y, moments = F.group_norm(x, num_groups, *vectors, **options)
        back = F.group_norm_backward(dy, x, moments, num_groups, vectors[0], **options)
        return y, moments, back

    def instance(on: Any) -> Any:
        options = {"axis": data.axis, "backend": on}
        y, moments = F.instance_norm(x, *vectors, **options)
        return y, moments, F.instance_norm_backward(dy, x, moments, vectors[0], **options)

    def layers(on: Any) -> Any:
        axis = data.axis
        made = (
            nc.LayerNorm(data.shape[-1], backend=on),
            nc.RMSNorm(data.shape[-1], backend=on),
            nc.GroupNorm(num_groups, data.channels, axis=axis, backend=on),
            nc.InstanceNorm(data.channels, axis=axis, affine=True, backend=on),
        )
        return [(each(x), each.backward(dy)) for each in made]

    sizes = sorted({1, len(data.shape) - 1})
    yield Case("layer_norm", lambda on: [rows(on, size) for size in sizes])
    yield Case("rms_norm", lambda on: [rms(on, size) for size in sizes])
    yield Case("group_norm", group)
    yield Case("instance_norm", instance)
    yield Case("layers", layers)


def folding() -> Iterator[Case]:
    """Weights of linear maps and convolutions with a batch norm before and after them."""
    for dtype in FLOATS:
        for shape, groups in (((6, 4), 1), ((8, 5, 3, 2), 1), ((12, 2, 3), 3), ((200, 131), 1)):
            weight = bell(shape, 31).astype(dtype)
            bias = bell(shape[:1], 32).astype(dtype)
            # NumPy adds fewer than 8 numbers in their order.
            for where in ("before", "after") if shape[1] < 8 else ("after",):
                size = shape[0] if where == "after" else shape[1] * groups
                mean, var, gamma, beta = (uniform((size,), seed) + 0.25 for seed in range(33, 37))
                options = {"where": where, "groups": groups, "padding": 0}
                if len(shape) == 2:
                    del options["padding"]
                for given, extra in ((bias, (gamma, beta)), (None, ())):
                    name = f"fold_batch_norm {where} {shape} {groups} {dtype} {given is not None}"
                    arguments = (weight, given, mean, var, *extra)
                    yield Case(
                        name,
                        lambda on, a=arguments, o=options: F.fold_batch_norm(*a, backend=on, **o),
                    )
