"""What the methods of a plugin's scaler return is checked, and the error says whose they are."""

from __future__ import annotations

import re
import sys
import types

import numpy as np
import pytest
from command_line import bad
from discovery import fresh_discovery, make_plugin
from own_statistics import Powers
from scipy import sparse

import normcore as nc
from normcore.statistics import Extrema, Moments

X = np.arange(12.0).reshape(4, 3) - 3.0


class Affine(nc.AffineScaler):
    """Returns whatever it is told to."""

    statistic = Extrema

    def __init__(self, *, returned=None, copy=True, backend=None, axis="columns"):
        super().__init__(copy=copy, backend=backend, axis=axis)
        self.returned = returned

    def affine(self, extrema):
        return self.returned(extrema) if callable(self.returned) else self.returned


class Clipped(Affine):
    def affine(self, extrema):
        return nc.Affine()

    def bounds(self):
        return self.returned


class Observing(nc.AffineScaler):
    statistic = Extrema
    returned = None

    def observe(self, backend, x, *, weights=None):
        return self.returned(x) if callable(self.returned) else self.returned

    def affine(self, extrema):
        return nc.Affine()


class Pointwise(nc.PointwiseScaler):
    returned = staticmethod(lambda xp, x: x)

    def forward(self, xp, x):
        return self.returned(xp, x)

    def inverse(self, xp, x):
        return self.returned(xp, x)


class Preparing(Pointwise):
    def prepare(self, statistic):
        return {"offset_": 1.0}


HERE = re.escape(f"(module {__name__!r})")


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (None, TypeError, "must return normcore.Affine, not None"),
        ((0.0, 1.0), TypeError, "must return normcore.Affine, not a value of type tuple"),
        (X, TypeError, "not ndarray of shape (4, 3) and dtype float64"),
        (nc.Affine(scale="1"), TypeError, "its scale is a value of type str"),
        (nc.Affine(beta=np.array([1j] * 3)), TypeError, "its beta is ndarray of shape (3,)"),
        (nc.Affine(scale=np.array([None] * 3)), TypeError, "and dtype object"),
        (
            nc.Affine(center=np.ma.masked_array([0.0] * 3)),
            TypeError,
            "its center is MaskedArray of",
        ),
        (nc.Affine(center=np.zeros(2)), ValueError, "each of the 3, but its center has shape (2,)"),
        (nc.Affine(gamma=np.ones((1, 3))), ValueError, "its gamma has shape (1, 3)"),
        (nc.Affine(center_low=np.ones(4)), ValueError, "its center_low has shape (4,)"),
        (nc.Affine(beta=np.inf), ValueError, "beta is inf in column 0"),
        (nc.Affine(scale=[1.0, np.inf, 2.0]), ValueError, "scale is inf in column 1"),
        (nc.Affine(scale=-np.inf), ValueError, "scale is -inf in column 0"),
        (lambda e: nc.Affine(center=np.sqrt(e.min)), ValueError, "center is nan in column 0"),
        (nc.Affine(scale=[1.0, np.nan, 1.0]), ValueError, "scale is nan in column 1, which has"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_affine(returned, error, message):
    scaler = Affine(returned=nc.Affine()).fit(X)
    scaler.returned = returned
    with pytest.raises(error, match=rf"Affine\.affine .*{re.escape(message)}.*{HERE}"):
        scaler.fit(X)
    np.testing.assert_array_equal(scaler.transform(X), X)  # as it was


@pytest.mark.parametrize("statistic", [Extrema, Moments])
def test_too_wide_a_spread_is_no_fault_of_the_plugin(statistic, monkeypatch):
    monkeypatch.setattr(Affine, "statistic", statistic)
    values = X.copy()
    values[:, 1] = [-1.5e308, 1.5e308, 0.0, 0.0]
    with pytest.raises(ValueError, match="column 1 of X spans more than the largest"):
        Affine(returned=nc.Affine(scale=[1.0, np.inf, 2.0])).fit(values)
    with pytest.raises(ValueError, match=r"Affine\.affine .*scale is inf in column 2"):
        Affine(returned=nc.Affine(scale=[1.0, 1.0, np.inf])).fit(values)


def test_a_column_without_values_may_have_no_coefficients():
    values = X.copy()
    values[:, 1] = np.nan
    scaler = Affine(returned=lambda extrema: nc.Affine(center=extrema.min)).fit(values)
    np.testing.assert_array_equal(np.isnan(scaler.transform(values)), np.isnan(values))


@pytest.mark.parametrize(
    "bounds", [1.0, (1.0,), ("a", "b"), (0.0, 1.0, 2.0), (2.0, 1.0), (0, np.nan)]
)
def test_bounds(bounds):
    with pytest.raises((TypeError, ValueError), match=rf"Clipped\.bounds must return .*{HERE}"):
        Clipped(returned=bounds).fit(X)
    assert Clipped(returned=(0, 1.0)).fit_transform(X).max() == 1.0


@pytest.mark.parametrize("data", [X, sparse.csr_array(X), sparse.csc_array(X)])
@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "must return a normcore.Statistic, not None"),
        (np.zeros(3), "not ndarray of shape (3,)"),
        (Moments.empty(7), "of 3 channels, not of 7"),
    ],
)
def test_observe(returned, message, data, monkeypatch):
    monkeypatch.setattr(Observing, "returned", returned)
    monkeypatch.setattr(Observing, "keeps_zero", True, raising=False)
    with pytest.raises(
        (TypeError, ValueError), match=rf"Observing\.observe .*{re.escape(message)}"
    ):
        Observing().fit(data)


def test_observe_cannot_write_to_the_data(monkeypatch):
    def returned(x):
        x[...] = 0.0

    monkeypatch.setattr(Observing, "returned", staticmethod(returned))
    values = X.copy()
    with pytest.raises(ValueError, match=rf"Observing\.observe must not write .*{HERE}"):
        Observing().fit(values)
    np.testing.assert_array_equal(values, X)


@pytest.mark.parametrize("statistic", [Extrema, Powers])
def test_what_was_observed_cannot_be_written_to(statistic, monkeypatch):
    def returned(seen):
        seen.count[...] = 0.0
        return nc.Affine()

    monkeypatch.setattr(Affine, "statistic", statistic)
    scaler = Affine(returned=nc.Affine()).fit(np.abs(X))
    before = scaler._statistic.to_state()
    scaler.set_params(returned=returned)
    for act in (scaler.fit, scaler.partial_fit):
        with pytest.raises(ValueError, match=rf"Affine\.affine must not write .*{HERE}"):
            act(np.abs(X))
    np.testing.assert_equal(scaler._statistic.to_state(), before)


def test_prepare():
    with pytest.raises(TypeError, match=r"Preparing\.prepare must set .* not a value of type dict"):
        Preparing().fit(X)


@pytest.mark.parametrize("rows", [1, 4, 50_000])  # in one piece and in blocks
@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (lambda xp, x: None, TypeError, "not None"),
        (lambda xp, x: np.ma.masked_less(x, 0.0), TypeError, "not MaskedArray of shape"),
        (lambda xp, x: x.tolist(), TypeError, "not a value of type list"),
        (lambda xp, x: xp.sum(x, axis=0), ValueError, "of shape (3,)"),
        (lambda xp, x: x[:, :1], ValueError, "of shape ("),
        (lambda xp, x: x.astype(np.float32), TypeError, "dtype float32"),
    ],
)
def test_pointwise_maps(returned, error, message, rows, monkeypatch):
    monkeypatch.setattr(Pointwise, "returned", staticmethod(returned))
    values = np.resize(X, (rows, 3))
    scaler = Pointwise().fit(values)
    for method, name in (("transform", "forward"), ("inverse_transform", "inverse")):
        expected = rf"Pointwise\.{name} must return ndarray .*{re.escape(message)}.*{HERE}"
        with pytest.raises(error, match=expected):
            getattr(scaler, method)(values)


@pytest.mark.parametrize("rows", [1, 50_000])
def test_pointwise_maps_cannot_write_to_the_data(rows, monkeypatch):
    def returned(xp, x):
        x += 1.0
        return x

    monkeypatch.setattr(Pointwise, "returned", staticmethod(returned))
    values = np.resize(X, (rows, 3))
    with pytest.raises(ValueError, match=rf"Pointwise\.forward must not write .*{HERE}"):
        Pointwise().fit(values).transform(values)
    np.testing.assert_array_equal(values, np.resize(X, (rows, 3)))


@pytest.mark.parametrize("rows", [1, 50_000])
def test_a_result_is_no_window_into_the_data(rows):
    values = np.resize(X, (rows, 3))
    result = Pointwise().fit(values).transform(values)
    assert not np.may_share_memory(result, values)
    assert result.flags.writeable
    np.testing.assert_array_equal(result, values)


def test_other_libraries_get_arrays_of_their_own_back(monkeypatch):
    strict = pytest.importorskip("array_api_strict")
    monkeypatch.setattr(Pointwise, "returned", staticmethod(lambda xp, x: np.asarray(X)))
    with pytest.raises(TypeError, match=r"must return Array of shape .* not ndarray of shape"):
        Pointwise(backend="reference").fit_transform(strict.asarray(X))


# -- whose it is ---------------------------------------------------------------------------


@pytest.fixture
def pareto(monkeypatch):
    """A registered plugin, whose scaler forgets to return its map."""
    fresh_discovery(monkeypatch)
    module = types.ModuleType("normcore_pareto")
    exec(
        "import normcore as nc\n"
        "class ParetoScaler(nc.AffineScaler):\n"
        "    statistic = nc.Extrema\n"
        "    def affine(self, extrema):\n"
        "        self.scale_ = extrema.max\n"
        "class LostScaler(ParetoScaler):\n"
        "    def affine(self, extrema):\n"
        "        return extrema.median\n",
        module.__dict__,
    )
    monkeypatch.setitem(sys.modules, "normcore_pareto", module)
    hooks = [
        "registry.scaler('pareto', 'normcore_pareto:ParetoScaler')",
        "registry.scaler('lost', 'normcore_pareto:LostScaler')",
    ]
    nc.register(make_plugin(*hooks, name="pareto_plugin"))
    return module


WHOSE = "(plugin 'pareto_plugin', registered by the application)"


def test_the_plugin_is_named(pareto):
    with pytest.raises(TypeError) as caught:
        pareto.ParetoScaler().fit(X)
    assert str(caught.value) == (
        f"ParetoScaler.affine must return normcore.Affine, not None {WHOSE}"
    )
    with pytest.raises(AttributeError) as caught:
        pareto.LostScaler().fit(X)
    assert caught.value.__notes__ == [f"LostScaler.affine raised it {WHOSE}"]


def test_the_command_line_names_it_too(pareto, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text("a,b\n1,2\n3,4\n")
    status, line = bad("fit", "x.csv", "--scaler", "pareto", "--save", "s.json")
    assert (status, line) == (
        1, f"x.csv: ParetoScaler.affine must return normcore.Affine, not None {WHOSE}"
    )  # fmt: skip
    status, line = bad("fit", "x.csv", "--scaler", "lost", "--save", "s.json")
    assert status == 1
    assert "AttributeError: " in line
    assert line.endswith(f"LostScaler.affine raised it {WHOSE}")
