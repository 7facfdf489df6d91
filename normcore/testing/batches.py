# ruff: noqa: D102  (the laws are named by what they say)
"""The laws of batch norm in all its modes on a backend's arrays, a part of the conformance kit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normcore import functional
from normcore.array_backend.abstract import Backend
from normcore.array_backend.composite import CompositeKernels
from normcore.batchnorm.layer import BatchNorm
from normcore.batchnorm.population_statistics import population_statistics
from normcore.layout.namespace import Array, array_namespace
from normcore.testing.arguments import draw_plane
from normcore.testing.checks import check_batch, check_batch_gradients, check_moments
from normcore.testing.strategies import ORDINARY, arrange, laws, out_like, shapes, views
from normcore.testing.under_test import BackendUnderTest

__all__ = ["BatchLaws"]

_EPS = 1e-3
_CHANNELS = 4
_AXES = st.sampled_from([0, 1, 2])
_LAYOUTS = st.sampled_from(["C", "F", "sliced", "transposed", "read-only"])
#: How a batch of 7 samples is split, and which samples are the parts.
_PARTS: dict[str, tuple[dict[str, Any], dict[str, Any], list[list[int]]]] = {
    "virtual": ({"virtual_batch_size": 4}, {}, [[0, 1, 2], [3, 4, 5, 6]]),
    "labels": ({}, {"groups": [1, 0, 1, 0, 0, 1, 1]}, [[1, 3, 4], [0, 2, 5, 6]]),
    "slices": ({}, {"groups": (slice(4, 7), slice(0, 4))}, [[4, 5, 6], [0, 1, 2, 3]]),
}


class BatchOptions(TypedDict):
    """What a batch is normalized with, on the host."""

    mask: Array
    activation: str | None


class NativeOptions(BatchOptions):
    """The same on a backend."""

    axis: int
    eps: float
    backend: Backend


class SynchronizedOptions(TypedDict):
    """What the ranks of a process group agree on."""

    eps: float
    activation: str
    backend: Backend


class BatchLaws(BackendUnderTest):
    """The laws of :class:`normcore.BatchNorm` and of the functions of batch norm."""

    # -- one batch -------------------------------------------------------------------------

    @laws
    @given(data=st.data(), axis=_AXES)
    def test_batches_are_normalized_by_their_own_moments(
        self, data: st.DataObject, axis: int
    ) -> None:
        x, gamma, beta, options = self._draw_batch(data)
        native, given = self.to_native(np.moveaxis(x, 1, axis)), self._native(options, axis)
        y, moments = functional.batch_norm(native, gamma, beta, **given)
        host, moments = self._moved(y, axis), moments.to_host()
        check_moments(moments, x, _weights(options))
        check_batch(host, x, moments, gamma, beta, _EPS, **options)
        np.testing.assert_array_equal(self._moved(native, axis), x, "batch_norm changed its input")
        out = self.to_native(out_like(np.moveaxis(x, 1, axis), host.dtype))
        assert functional.batch_norm(native, gamma, beta, out=out, **given)[0] is out
        np.testing.assert_array_equal(self._moved(out, axis), host)
        inference = functional.batch_norm_inference(
            native, moments.mean, moments.var(), gamma, beta, **given
        )
        check_batch(self._moved(inference, axis), x, moments, gamma, beta, _EPS, **options)

    @laws
    @given(data=st.data(), axis=_AXES, training=st.booleans())
    def test_gradients_of_batches(self, data: st.DataObject, axis: int, training: bool) -> None:
        x, gamma, beta, options = self._draw_batch(data)
        rng = np.random.default_rng(x.size)
        dy = arrange(rng.standard_normal(x.shape).astype(x.dtype), data.draw(_LAYOUTS))
        native = [self.to_native(np.moveaxis(each, 1, axis)) for each in (x, dy)]
        given = self._native(options, axis)
        y, moments = functional.batch_norm(native[0], gamma, beta, **given)
        arguments = native[1], native[0], moments, gamma, beta
        dx, *sums = functional.batch_norm_backward(*arguments, training=training, **given)
        found = self._moved(dx, axis), *map(self.to_host, sums)
        check_batch_gradients(
            found, dy, x, moments.to_host(), gamma, _EPS,
            y=self._moved(y, axis), training=training, **options,
        )  # fmt: skip
        for array, before in zip(native, (x, dy), strict=True):
            np.testing.assert_array_equal(self._moved(array, axis), before, "an input changed")

    def test_batches_in_place(self) -> None:
        x, dy = _example(20, size=(2, 37, _CHANNELS, 5))
        layer, other = self._layer(), self._layer()
        y, native = self.to_host(layer(self.to_native(x))), self.to_native(x.copy())
        assert other(native, native) is native
        np.testing.assert_array_equal(self.to_host(native), y)
        with pytest.raises(RuntimeError, match="overwrote its input"):
            other.backward(self.to_native(dy))
        dx = self.to_host(layer.backward(self.to_native(dy))[0])
        native = self.to_native(dy.copy())
        assert layer.backward(native, native)[0] is native
        np.testing.assert_array_equal(self.to_host(native), dx)

    @pytest.mark.parametrize("shape", [(0, _CHANNELS), (0, _CHANNELS, 3), (2, _CHANNELS, 0)])
    def test_empty_batches_change_nothing(self, shape: tuple[int, ...]) -> None:
        x = np.empty(shape, np.float32)
        for options in ({}, {"virtual_batch_size": 2}, {"r_max": 2.0, "d_max": 1.0}):
            layer = self._layer(**options)
            y = self.to_host(layer(self.to_native(x)))
            assert y.shape == shape
            assert y.dtype == np.float32
            assert layer.num_batches_tracked == 0
            for vector in layer.backward(self.to_native(x))[1:]:
                np.testing.assert_array_equal(self.to_host(vector), np.zeros(_CHANNELS))
        moments = functional.batch_norm(self.to_native(x), backend=self.engine)[1]
        np.testing.assert_array_equal(moments.to_host().count, np.zeros(_CHANNELS))

    @pytest.mark.parametrize("single", ["skip", "running"])
    def test_batches_of_one_value(self, single: str) -> None:
        x, dy = _example(21, size=(2, 1, _CHANNELS))
        layer = self._layer(single=single)
        mean, var = layer.running_mean, layer.running_var
        y = self.to_host(layer(self.to_native(x)))
        dx, dgamma, dbeta = map(self.to_host, layer.backward(self.to_native(dy)))
        xhat = np.zeros_like(x) if single == "skip" else (x - mean) / np.sqrt(var + _EPS)
        slope = 0.0 if single == "skip" else layer.gamma / np.sqrt(var + _EPS)
        np.testing.assert_allclose(y, xhat * layer.gamma + layer.beta, rtol=1e-14, atol=1e-14)
        np.testing.assert_allclose(dx, dy * slope, rtol=1e-14)
        np.testing.assert_allclose(dgamma, (dy * xhat)[0], rtol=1e-14)
        np.testing.assert_array_equal(dbeta, dy[0])
        assert layer.num_batches_tracked == 0
        with pytest.raises(ValueError, match="at least 2 values"):
            self._layer()(self.to_native(x))

    # -- parameters and running statistics ---------------------------------------------------

    @pytest.mark.parametrize("affine", [True, False, "gamma", "beta"])
    def test_layers_have_the_parameters_that_affine_says(self, affine: bool | str) -> None:
        x, dy = _example(22, size=(2, 9, _CHANNELS, 3))
        layer = self._layer(affine=affine)
        native = self.to_native(x)
        y, found = self.to_host(layer(native)), layer.backward(self.to_native(dy))
        gamma = np.ones(_CHANNELS) if layer.gamma is None else layer.gamma
        beta = np.zeros(_CHANNELS) if layer.beta is None else layer.beta
        moments = functional.moments(native, channel_axis=1, backend=self.engine).to_host()
        check_batch(y, x, moments, gamma, beta, _EPS)
        has = affine in (True, "gamma"), affine in (True, "beta")
        assert tuple(each is not None for each in found[1:]) == has
        whole = functional.batch_norm_backward(
            dy, x, moments, gamma, beta, eps=_EPS, backend="reference"
        )
        for each, expected in zip(found, whole, strict=True):
            if each is not None:
                np.testing.assert_allclose(self.to_host(each), expected, rtol=1e-11, atol=1e-13)

    @pytest.mark.parametrize(
        "options",
        [{"momentum": 0.25}, {"momentum": None, "ddof": 0}, {"decay": 0.25}, {"ddof": 0}],
        ids=lambda options: ", ".join(f"{key}={value}" for key, value in options.items()),
    )
    def test_running_statistics_follow_batches(self, options: dict[str, Any]) -> None:
        batches = _example(23, size=(5, 9, _CHANNELS, 3))
        mask = np.random.default_rng(24).random((9, 3)) < 0.7
        layer = self._layer(**options)
        mean, var, ddof = layer.running_mean, layer.running_var, options.get("ddof", 1)
        if "decay" in options:
            assert layer.momentum == 0.75
        for number, x in enumerate(batches[:3], 1):
            layer(self.to_native(x), mask=self.to_native(mask) if number == 2 else None)
            weight = 1 / number if layer.momentum is None else layer.momentum
            rows = np.moveaxis(x, 1, 2)[mask if number == 2 else np.ones_like(mask)]
            mean = weight * rows.mean(axis=0) + (1 - weight) * mean
            var = weight * rows.var(axis=0, ddof=ddof) + (1 - weight) * var
        layer(self.to_native(batches[3]), update_stats=False)
        frozen = self.to_host(layer.freeze().train()(self.to_native(batches[4])))
        np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-13)
        np.testing.assert_allclose(layer.running_var, var, rtol=1e-13)
        assert layer.num_batches_tracked == 3
        y = self.to_host(layer.unfreeze().eval()(self.to_native(batches[4])))
        np.testing.assert_array_equal(frozen, y)
        expected = _normalized(batches[4], mean, var) * layer.gamma[:, None] + layer.beta[:, None]
        np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("method", ["pooled", "algorithm2"])
    def test_population_statistics_are_those_of_all_batches(self, method: str) -> None:
        batches = _example(25, size=(3, 9, _CHANNELS, 3)) * [[[[1.0]]], [[[5.0]]], [[[2.0]]]]
        layers = self._layer(), self._layer(activation="relu").eval()
        with population_statistics(layers, method=method):
            for x in batches:
                layers[1](layers[0](self.to_native(x)))
        rows = np.moveaxis(batches, 2, 3).reshape(3, -1, _CHANNELS)
        var = rows.reshape(-1, _CHANNELS).var(axis=0, ddof=1)
        if method == "algorithm2":
            var = rows.var(axis=1, ddof=1).mean(axis=0)
        np.testing.assert_allclose(layers[0].running_mean, rows.mean(axis=(0, 1)), rtol=1e-13)
        np.testing.assert_allclose(layers[0].running_var, var, rtol=1e-13)
        np.testing.assert_allclose(layers[1].running_mean, layers[0].beta, atol=1e-14)
        assert [each.num_batches_tracked for each in layers] == [3, 3]

    def test_folded_batch_norms_are_the_layers(self) -> None:
        x = _example(26, size=(11, _CHANNELS))
        layer = self._layer()
        layer(self.to_native(x))
        layer.eval()
        vectors = layer.running_mean, layer.running_var, layer.gamma, layer.beta
        weight, bias = _example(27, size=(_CHANNELS, _CHANNELS)), np.arange(_CHANNELS * 1.0)
        for where in ("before", "after"):
            folded = functional.fold_batch_norm(
                self.to_native(weight), bias, *vectors, where=where, eps=_EPS, backend=self.engine
            )
            w, b = map(self.to_host, folded)
            if where == "before":
                expected = self.to_host(layer(self.to_native(x))) @ weight.T + bias
            else:
                expected = self.to_host(layer(self.to_native(x @ weight.T + bias)))
            np.testing.assert_allclose(x @ w.T + b, expected, rtol=1e-12, atol=1e-11)

    # -- parts, corrections and ranks ------------------------------------------------------

    @pytest.mark.parametrize("kind", _PARTS)
    def test_parts_are_batches_of_their_own(self, kind: str) -> None:
        options, call, parts = _PARTS[kind]
        x, dy = _example(28, size=(2, 7, _CHANNELS, 5))
        mask = np.random.default_rng(29).random((7, 5)) < 0.8
        layer = self._layer(activation="relu", momentum=1.0, **options)
        y = self.to_host(layer(self.to_native(x), mask=self.to_native(mask), **call))
        dx, dgamma, dbeta = map(self.to_host, layer.backward(self.to_native(dy)))
        sums = np.zeros((2, _CHANNELS))
        for part in parts:
            _, moments = functional.batch_norm(x[part], mask=mask[part], backend="reference")
            given: BatchOptions = {"mask": mask[part], "activation": "relu"}
            check_batch(y[part], x[part], moments, layer.gamma, layer.beta, _EPS, **given)
            vectors = layer.gamma, layer.beta
            own = functional.batch_norm_backward(
                dy[part], x[part], moments, *vectors, eps=_EPS, backend="reference", **given
            )
            np.testing.assert_allclose(dx[part], own[0], rtol=1e-11, atol=1e-12)
            sums += own[1:]
        np.testing.assert_allclose([dgamma, dbeta], sums, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(layer.running_mean, moments.mean, rtol=1e-14)
        assert layer.num_batches_tracked == len(parts)

    @pytest.mark.parametrize(("r_max", "d_max"), [(1.0, 0.0), (1.2, 0.3), (5.0, 9.0)])
    def test_renormalized_batches(self, r_max: float, d_max: float) -> None:
        x, dy = _example(30, size=(2, 9, _CHANNELS, 3))
        layer = self._layer(r_max=r_max, d_max=d_max)
        mean, var = layer.running_mean, layer.running_var
        y = self.to_host(layer(self.to_native(x)))
        dx, dgamma, dbeta = map(self.to_host, layer.backward(self.to_native(dy)))
        moments = functional.moments(x, channel_axis=1, backend="reference")
        scale = np.sqrt(var + _EPS)
        r = np.clip(np.sqrt(moments.var() + _EPS) / scale, 1 / r_max, r_max)
        d = np.clip((moments.mean - mean) / scale, -d_max, d_max)
        gamma, beta = layer.gamma * r, layer.gamma * d + layer.beta
        check_batch(y, x, moments, gamma, beta, _EPS)
        expected = functional.batch_norm_backward(
            dy, x, moments, gamma, beta, eps=_EPS, backend="reference"
        )
        np.testing.assert_allclose(dx, expected[0], rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(dbeta, expected[2], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(
            dgamma, r * expected[1] + d * expected[2], rtol=1e-12, atol=1e-12
        )

    def test_ranks_are_one_batch(self) -> None:
        x, dy = _example(31, size=(2, 9, _CHANNELS, 3))
        gamma, beta = _example(32, size=(2, _CHANNELS))
        options: SynchronizedOptions = {"eps": _EPS, "activation": "relu", "backend": self.engine}
        halves = slice(0, 7), slice(7, 9)
        natives = [(self.to_native(x[half]), self.to_native(dy[half])) for half in halves]
        own = [
            functional.moments(each, channel_axis=1, backend=self.engine).parts
            for each, _ in natives
        ]
        forward = [
            functional.batch_norm(
                natives[rank][0], gamma, beta, communicator=_Rank(rank, own[1 - rank]), **options
            )
            for rank in range(2)
        ]
        y = np.concatenate([self.to_host(each) for each, _ in forward])
        moments = forward[0][1]
        for _, each in forward:
            check_moments(each.to_host(), x)
        check_batch(y, x, moments.to_host(), gamma, beta, _EPS, activation="relu")
        sums = []
        for (each, gradient), (result, _) in zip(natives, forward, strict=True):
            masked = self.to_native(self.to_host(gradient) * (self.to_host(result) > 0))
            both = CompositeKernels(self.engine, 1).backward_reduce(
                masked, each, moments.mean, relu_mask=None, mask=None
            )
            sums.append(array_namespace(both[0]).stack(both))
        parts = [
            functional.batch_norm_backward(
                natives[rank][1], natives[rank][0], moments, gamma, beta,
                communicator=_Rank(rank, sums[1 - rank]), **options,
            )
            for rank in range(2)
        ]  # fmt: skip
        dx, dgamma, dbeta = (
            [self.to_host(each) for each in both] for both in zip(*parts, strict=True)
        )
        found = np.concatenate(dx), np.add(*dgamma), np.add(*dbeta)
        check_batch_gradients(found, dy, x, moments.to_host(), gamma, _EPS, y=y, activation="relu")

    # -- helpers ---------------------------------------------------------------------------

    def _layer(self, **options: Any) -> BatchNorm:
        """Return a layer on the backend, whose parameters and statistics are not the first ones."""
        layer = BatchNorm(_CHANNELS, eps=_EPS, backend=self.engine, **options)
        rng = np.random.default_rng(19)
        for name in ("gamma", "beta"):
            if getattr(layer, name) is not None:
                setattr(layer, name, rng.standard_normal(_CHANNELS))
        layer.running_mean, layer.running_var = (
            rng.standard_normal(_CHANNELS),
            np.full(_CHANNELS, 2.0),
        )
        return layer

    def _native(self, options: BatchOptions, axis: int) -> NativeOptions:
        mask = options["mask"]
        native = None if mask is None else self.to_native(mask)
        return {**options, "mask": native, "axis": axis, "eps": _EPS, "backend": self.engine}

    def _moved(self, array: Array, axis: int) -> np.ndarray:
        """Return an array on the host, with its channels on axis 1."""
        return np.moveaxis(self.to_host(array), axis, 1)

    def _draw_batch(
        self, data: st.DataObject
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, BatchOptions]:
        """Draw a batch of two or more values to a channel, gamma, beta, and a mask or none."""
        shape = shapes(min_positions=1).filter(lambda each: each[0] * each[2] > 1)
        x = data.draw(views(shape=shape, dtypes=self.dtypes, recipes=ORDINARY))
        mask = draw_plane(data, x, mask=True)
        if mask is not None:
            mask = mask.copy()
            mask.reshape(-1)[:2] = True
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
        gamma, beta = rng.standard_normal((2, x.shape[1]))
        activation = data.draw(st.sampled_from([None, "relu"]))
        return x, gamma, beta, {"mask": mask, "activation": activation}


class _Rank:
    """A rank of two, where the parts of the other one are known."""

    size = 2

    def __init__(self, rank: int, other: Array) -> None:
        self.rank = rank
        self._others: Iterator[Array] = iter([np.array(other.shape, np.float64), other])

    def allreduce(self, array: Array) -> Array:
        both = [array[self.rank, ...], next(self._others)]
        return array_namespace(array).stack(both if self.rank == 0 else both[::-1])


def _example(seed: int, *, size: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size) * 3.0 + 1.0


def _weights(options: BatchOptions) -> np.ndarray | None:
    mask = options["mask"]
    return None if mask is None else mask * 1.0


def _normalized(x: np.ndarray, mean: np.ndarray, var: np.ndarray) -> np.ndarray:
    xhat: np.ndarray = (x - mean[:, None]) / np.sqrt(var + _EPS)[:, None]
    return xhat
