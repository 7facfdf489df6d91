# ruff: noqa: D102  (the laws are named by what they say)
"""What every backend promises, as tests that a backend's own test class inherits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normcore.affine import Affine
from normcore.array_backend.reference import ReferenceBackend
from normcore.layout.namespace import Array, array_namespace
from normcore.registration.discovery import catalog
from normcore.statistics import Extrema, Moments, Statistic
from normcore.statistics.brackets import Brackets
from normcore.testing.arguments import (
    draw_affine,
    draw_backward,
    draw_ends,
    draw_mask,
    draw_plane,
    draw_rescale_options,
)
from normcore.testing.arrays import ArrayLaws
from normcore.testing.batches import BatchLaws
from normcore.testing.checks import check_brackets, check_extrema, check_moments, check_sums
from normcore.testing.registered import assert_usable
from normcore.testing.rows import RowLaws
from normcore.testing.sharing import assert_shared
from normcore.testing.strategies import ORDINARY, laws, shapes, views
from normcore.threads import get_num_threads, set_num_threads

__all__ = ["BackendConformance", "laws"]

_LARGE = [(40001, 3, 1), (1, 2, 70003), (301, 4, 173), (6007, 19, 1), (1, 1, 150001)]
_STATISTICS = (Moments, Extrema, Brackets)


class BackendConformance(ArrayLaws, BatchLaws, RowLaws):
    """The laws of :class:`normcore.Backend`; a subclass names its backend.

    >>> class TestMine(BackendConformance):
    ...     backend = "mine"

    Attributes
    ----------
    backend, dtypes, refuses_infinity
        As of :class:`~normcore.testing.under_test.BackendUnderTest`.

    Examples
    --------
    >>> import normcore as nc
    >>> from normcore.testing import BackendConformance
    >>> class TestCpu(BackendConformance):
    ...     backend = nc.get_backend("cpu")
    """

    # -- selection -------------------------------------------------------------------------

    def test_probe_says_ready(self) -> None:
        status = type(self.engine).probe()
        assert status, status.reason

    def test_its_plugin_is_usable(self) -> None:
        name = self.backend if isinstance(self.backend, str) else self.backend.name
        registration = catalog().get("backend", name)
        if registration is None:
            pytest.skip("this backend is not registered")
        assert_usable(registration)

    @pytest.mark.parametrize("dtype", ["complex128", "U3", "O", "S2"])
    def test_adopt_refuses_what_is_not_real(self, dtype: str) -> None:
        with pytest.raises(TypeError):
            self.engine.adopt(np.zeros(3).astype(dtype))

    @laws
    @given(x=views(nan=True))
    def test_adopt_and_release_keep_every_bit(self, x: np.ndarray) -> None:
        back = self.to_host(self.to_native(x))
        assert back.dtype == x.dtype
        np.testing.assert_array_equal(back, x)

    def test_release_puts_vectors_of_the_host_beside_an_array(self) -> None:
        vector, like = np.arange(3.0), self.to_native(np.zeros((2, 3, 1)))
        beside = self.engine.release(vector, like)
        assert type(beside) is type(like)
        np.testing.assert_array_equal(self.to_host(beside), vector)

    # -- moments ---------------------------------------------------------------------------

    @laws
    @given(data=st.data())
    def test_moments_are_exact_to_the_promise(self, data: st.DataObject) -> None:
        x = data.draw(views(dtypes=(*self.dtypes, "int64", "uint8", "bool"), nan=True))
        plane = draw_plane(data, x)
        moments = self.engine.moments(self.to_native(x), weights=self._optional(plane), skipna=True)
        check_moments(moments.to_host(), x, plane)

    @pytest.mark.parametrize("shape", _LARGE)
    @pytest.mark.parametrize(("offset", "weighted"), [(0.0, False), (1e12, True)])
    def test_moments_of_many_positions(
        self, shape: tuple[int, int, int], offset: float, weighted: bool
    ) -> None:
        rng = np.random.default_rng(5)
        x = rng.standard_normal(shape) + offset
        plane = rng.integers(0, 3, (shape[0], shape[2])) * 1.0 if weighted else None
        moments = self.engine.moments(self.to_native(x), weights=self._optional(plane))
        check_moments(moments.to_host(), x, plane)

    @laws
    @given(data=st.data())
    def test_moments_propagate_nan_and_infinity(self, data: st.DataObject) -> None:
        x = data.draw(
            views(
                dtypes=self.dtypes,
                nan=True,
                shape=shapes(min_positions=1),
                recipes=ORDINARY,
                layouts=("C",),
            )
        )
        if data.draw(st.booleans()):
            x[-1, 0, -1] = np.inf
        moments = self.engine.moments(self.to_native(x)).to_host()
        broken = ~np.isfinite(x).all(axis=(0, 2))
        np.testing.assert_array_equal(moments.count, x.shape[0] * x.shape[2])
        np.testing.assert_array_equal(~np.isfinite(moments.mean), broken)
        np.testing.assert_array_equal(np.isnan(moments.var()), broken)

    def test_what_weighs_nothing_does_not_count(self) -> None:
        x = np.array([1.0, np.nan, 3.0, np.inf]).reshape(4, 1, 1)
        plane = np.array([[1.0], [0.0], [1.0], [0.0]])
        for weights in (plane, plane > 0):
            moments = self.engine.moments(self.to_native(x), weights=self.to_native(weights))
            moments = moments.to_host()
            assert (moments.count[0], moments.mean[0], moments.var()[0]) == (2.0, 2.0, 1.0)

    # -- extrema, brackets, quantiles ------------------------------------------------------

    @laws
    @given(data=st.data(), skipna=st.booleans())
    def test_extrema_equal_reference(self, data: st.DataObject, skipna: bool) -> None:
        x = data.draw(views(dtypes=(*self.dtypes, "int64", "bool"), nan=True))
        got = self.engine.extrema(self.to_native(x), skipna=skipna).to_host()
        check_extrema(got, ReferenceBackend().extrema(x, skipna=skipna))

    @laws
    @given(data=st.data(), skipna=st.booleans())
    def test_brackets_equal_reference(self, data: st.DataObject, skipna: bool) -> None:
        x = data.draw(views(dtypes=(*self.dtypes, "int64"), nan=True))
        plane = draw_plane(data, x)
        lower, upper = draw_ends(data, x)
        got = self.engine.brackets(
            self.to_native(x), lower, upper, weights=self._optional(plane), skipna=skipna
        )
        expected = ReferenceBackend().brackets(x, lower, upper, weights=plane, skipna=skipna)
        check_brackets(got.to_host(), expected)

    @laws
    @given(data=st.data())
    def test_quantiles_equal_numpy(self, data: st.DataObject) -> None:
        x = data.draw(views(dtypes=self.dtypes, nan=True, shape=shapes(min_positions=1)))
        q = data.draw(st.lists(st.floats(0, 1), min_size=1, max_size=4))
        got = self.engine.quantiles(self.to_native(x), np.array(q), skipna=True).to_host()
        for channel in range(x.shape[1]):
            column = x[:, channel, :].astype(np.float64)
            column = column[~np.isnan(column)]
            expected = np.quantile(column, q) if column.size else np.full(len(q), np.nan)
            np.testing.assert_array_equal(got.values[:, channel], expected)

    # -- the monoid ------------------------------------------------------------------------

    @laws
    @given(data=st.data(), kind=st.sampled_from(_STATISTICS))
    def test_merged_chunks_are_the_whole(self, data: st.DataObject, kind: type[Statistic]) -> None:
        x = data.draw(views(dtypes=self.dtypes, nan=True))
        lower, upper = draw_ends(data, x)
        options = {"lower": lower, "upper": upper} if kind is Brackets else {}
        cuts = sorted(data.draw(st.lists(st.integers(0, x.shape[0]), max_size=4)))
        observe: Callable[..., Statistic] = kind.observe
        parts = [
            observe(self.engine, self.to_native(chunk), skipna=True, **options)
            for chunk in np.split(x, cuts)  # empty chunks among them
        ]
        states = [_copied_state(part) for part in parts]
        order = data.draw(st.permutations(range(len(parts))))
        total = parts[order[0]]
        for index in order[1:]:
            pair = (total, parts[index]) if index % 2 else (parts[index], total)
            total = self.engine.merge(*pair)
        for part, state in zip(parts, states, strict=True):
            _assert_state(part, state, "merging changed an operand")
        total = total.to_host()
        if isinstance(total, Moments):
            check_moments(total, x)
        elif isinstance(total, Extrema):
            check_extrema(total, ReferenceBackend().extrema(x, skipna=True))
        else:
            assert isinstance(total, Brackets)
            check_brackets(total, ReferenceBackend().brackets(x, lower, upper, skipna=True))

    @laws
    @given(data=st.data(), kind=st.sampled_from(_STATISTICS))
    def test_nothing_observed_is_neutral(self, data: st.DataObject, kind: type[Statistic]) -> None:
        x = data.draw(views(dtypes=self.dtypes, nan=True))
        lower, upper = draw_ends(data, x)
        options = {"lower": lower, "upper": upper} if kind is Brackets else {}
        observe: Callable[..., Statistic] = kind.observe
        some, none = (
            observe(self.engine, self.to_native(each), skipna=True, **options)
            for each in (x, x[:0])
        )
        state = _copied_state(some)
        _assert_state(self.engine.merge(some, none), state, "an empty chunk is not neutral")
        _assert_state(self.engine.merge(none, some), state, "an empty chunk is not neutral")
        nothing: Array = none.to_host()
        assert not np.any(nothing.count)

    # -- rescale ---------------------------------------------------------------------------

    @laws
    @given(data=st.data())
    def test_rescale_has_the_bits_of_the_reference(self, data: st.DataObject) -> None:
        x = data.draw(views(dtypes=(*self.dtypes, "int64", "bool"), nan=True))
        options = draw_rescale_options(data, x)
        expected = ReferenceBackend().rescale(x, **options)
        native = self.to_native(x)
        options["mask"] = self._optional(options["mask"])
        layout = data.draw(st.sampled_from(["C", "F", "sliced", "reversed"]))
        out = self._poisoned(x, layout)
        assert self.engine.rescale(native, out=out, **options) is out
        np.testing.assert_array_equal(self.to_host(out), expected)
        fresh = self.engine.rescale(native, **options)
        np.testing.assert_array_equal(self.to_host(fresh), expected)
        assert self.to_host(fresh).dtype == expected.dtype
        np.testing.assert_array_equal(self.to_host(native), x, "rescale changed its input")

    @laws
    @given(data=st.data())
    def test_rescale_in_place(self, data: st.DataObject) -> None:
        x = data.draw(views(dtypes=self.dtypes, nan=True, layouts=("C", "F", "sliced")))
        options = draw_rescale_options(data, x)
        expected = ReferenceBackend().rescale(x.copy(), **options)
        native = self.to_native(x.copy(order="K"))
        options["mask"] = self._optional(options["mask"])
        assert self.engine.rescale(native, out=native, **options) is native
        np.testing.assert_array_equal(self.to_host(native), expected)

    @laws
    @given(data=st.data())
    def test_rescale_where_maps_what_is_shown(self, data: st.DataObject) -> None:
        x = data.draw(views(dtypes=self.dtypes, nan=True, layouts=("C", "F", "sliced")))
        affine = draw_affine(data, x.shape[1])
        clip = data.draw(st.sampled_from([None, (0.0, 1.0)]))
        mask = draw_mask(data, x.shape)
        where = np.broadcast_to(mask, x.shape)
        expected = np.where(where, ReferenceBackend().rescale(x, affine, clip=clip), x)
        x[~where & (data.draw(st.integers(0, 2)) == 0)] = np.inf  # hidden, so not refused
        expected[~where] = x[~where]
        native = self.to_native(x.copy(order="K"))
        shown = array_namespace(native).broadcast_to(self.to_native(mask), x.shape)
        out = self._poisoned(x, data.draw(st.sampled_from(["C", "sliced", "reversed"])))
        for target in (None, out, native):  # the last in place
            y = self.engine.rescale_where(
                native, affine, shown, clip=clip, out=target, refuse_infinite=True
            )
            assert target is None or y is target
            np.testing.assert_array_equal(self.to_host(y), expected)

    @laws
    @given(data=st.data())
    def test_inverse_restores(self, data: st.DataObject) -> None:
        x = data.draw(views(dtypes=("float64",), recipes=ORDINARY))
        affine = draw_affine(data, x.shape[1])
        y = self.engine.rescale(self.to_native(x), affine)
        back = self.to_host(self.engine.rescale(y, affine.inverse()))
        center, scale, gamma, beta = (each[:, None] for each in affine.vectors(x.shape[1]))
        units = np.abs(x) + np.abs(center) + np.abs(beta * scale / gamma)
        assert np.all(np.abs(back - x) <= 8 * np.finfo(np.float64).eps * units)

    # -- backward --------------------------------------------------------------------------

    @laws
    @given(data=st.data())
    def test_backward_reduce_equals_reference(self, data: st.DataObject) -> None:
        x, dy, mean, options = draw_backward(data, self.dtypes)
        expected = ReferenceBackend().backward_reduce(dy, x, mean, **options)
        options["mask"] = self._optional(options["mask"])
        got = self.engine.backward_reduce(self.to_native(dy), self.to_native(x), mean, **options)
        check_sums(tuple(map(self.to_host, got)), expected, dy, x, mean)

    @laws
    @given(data=st.data())
    def test_backward_elemt_has_the_bits_of_the_reference(self, data: st.DataObject) -> None:
        x, dy, mean, options = draw_backward(data, self.dtypes)
        rng = np.random.default_rng(x.size)
        a, b, d = rng.standard_normal((3, x.shape[1]))
        expected = ReferenceBackend().backward_elemt(dy, x, mean, a, b, d, **options)
        options["mask"] = self._optional(options["mask"])
        native = self.to_native(dy), self.to_native(x)
        out = self._poisoned(x, data.draw(st.sampled_from(["C", "F", "sliced", "reversed"])))
        assert self.engine.backward_elemt(*native, mean, a, b, d, out=out, **options) is out
        np.testing.assert_array_equal(self.to_host(out), expected)
        for array, before in zip(native, (dy, x), strict=True):
            np.testing.assert_array_equal(self.to_host(array), before, "an input changed")

    # -- parts of a channel ----------------------------------------------------------------

    @pytest.mark.parametrize("shape", [(9001, 3, 1), (1, 2, 30011), (203, 4, 61), (3001, 19, 1)])
    def test_parts_of_a_channel_merge(self, shape: tuple[int, int, int]) -> None:
        """Threads and blocks share a channel; what each finds is in the result."""
        rng = np.random.default_rng(6)
        x, dy = rng.standard_normal((2, *shape))
        x[0, :, 0], x[-1, :, -1] = -9.0, 9.0  # in the first part and in the last
        mean, plane = rng.standard_normal(shape[1]), rng.integers(0, 3, (shape[0], shape[2])) * 1.0
        lower, upper = np.full((2, shape[1]), -0.5), np.full((2, shape[1]), 0.25)
        upper[1] = 9.0
        native, native_dy, reference = self.to_native(x), self.to_native(dy), ReferenceBackend()
        check_extrema(self.engine.extrema(native).to_host(), reference.extrema(x))
        for weights in (None, plane):
            given = self._optional(weights)
            got = self.engine.brackets(native, lower, upper, weights=given).to_host()
            check_brackets(got, reference.brackets(x, lower, upper, weights=weights))
        for mask in (None, plane > 0):
            sums = self.engine.backward_reduce(native_dy, native, mean, mask=self._optional(mask))
            expected = reference.backward_reduce(dy, x, mean, mask=mask)
            check_sums(tuple(map(self.to_host, sums)), expected, dy, x, mean)

    # -- threads ---------------------------------------------------------------------------

    @pytest.mark.parametrize("shape", _LARGE)
    def test_any_number_of_threads_gives_the_same_bits(self, shape: tuple[int, int, int]) -> None:
        x = self.to_native(np.random.default_rng(1).standard_normal(shape).astype(np.float32))
        before = get_num_threads()
        try:
            results = []
            for number in (1, 2, 5):
                set_num_threads(number)
                results.append(self._all_kernels(x))
        finally:
            set_num_threads(before)
        for other in results[1:]:
            _assert_same(results[0], other)

    def test_threads_may_share_inputs(self) -> None:
        inputs = [
            self.to_native(np.random.default_rng(seed).standard_normal((20011, 5, 1)))
            for seed in (2, 3)
        ]
        assert_shared(self._all_kernels, inputs)

    def _all_kernels(self, x: Array) -> list[np.ndarray]:
        """Return what every kernel makes of x, kept values in order."""
        num_channels = x.shape[1]
        rng = np.random.default_rng(3)
        mean, scale = rng.standard_normal(num_channels), rng.random(num_channels) + 0.5
        affine = Affine(center=mean, scale=scale, gamma=2.0, beta=scale)
        ends = np.full((1, num_channels), -0.5), np.full((1, num_channels), 0.25)
        weights = self.to_native(rng.integers(0, 3, (x.shape[0], x.shape[2])) * 1.0)
        brackets = self.engine.brackets(x, *ends).to_host()
        states: list[Statistic] = [
            self.engine.moments(x, skipna=True),
            self.engine.moments(x, weights=weights),
            self.engine.extrema(x),
            brackets,
        ]
        for row in brackets.inside:
            row[:] = [np.sort(each) for each in row]
        return [
            *(value for state in states for value in state.to_host().to_state().values()),
            self.to_host(self.engine.rescale(x, affine)),
            *(
                self.to_host(each)
                for each in self.engine.backward_reduce(x, x, mean, relu_mask=affine)
            ),
            self.to_host(self.engine.backward_elemt(x, x, mean, scale, mean, scale)),
        ]


def _copied_state(statistic: Statistic) -> dict[str, np.ndarray]:
    return {key: value.copy() for key, value in statistic.to_host().to_state().items()}


def _assert_state(statistic: Statistic, state: dict[str, np.ndarray], what: str) -> None:
    now = statistic.to_host().to_state()
    assert now.keys() == state.keys()
    for key, value in now.items():
        np.testing.assert_array_equal(value, state[key], f"{what}: {key}")


def _assert_same(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    for left, right in zip(one, other, strict=True):
        assert left.tobytes() == right.tobytes()
