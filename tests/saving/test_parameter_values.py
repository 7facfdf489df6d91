"""Parameters of plugins in saved files: what comes back, and what is refused by its type."""

import collections
import enum
import json
import math

import numpy as np
import pytest
from discovery import make_plugin, more_discovery
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

import normcore as nc
from normcore.saving.parameter_values import from_json, is_plain, to_json
from normcore.saving.scaler_file import _decode, _encode


class Parametrized(nc.AffineScaler):
    """A scaler with a parameter of any kind."""

    statistic = nc.Moments

    def __init__(self, value=None, *, copy=True, backend=None):
        self.value = value
        self.copy = copy
        self.backend = backend

    def affine(self, moments):
        return nc.Affine(scale=moments.std())


@pytest.fixture
def registered(monkeypatch):
    more_discovery(monkeypatch)
    name = f"{__name__}:Parametrized"
    nc.register(make_plugin(f"registry.scaler('parametrized', {name!r})"))


def through_a_file(value):
    text = json.dumps(_encode(to_json("value", value)), allow_nan=False)
    return from_json(_decode(json.loads(text)))


def same(one, other):
    """Compare types too, and bits of floats."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray | np.generic):
        return (one.dtype, one.shape) == (other.dtype, other.shape) and (
            one.tobytes() == other.tobytes()
            or (one.dtype.kind == "f" and np.array_equal(one, other, equal_nan=True))
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float):
        return math.isnan(other) if math.isnan(one) else one.hex() == other.hex()
    return one == other


DTYPES = ["?", "i1", "u8", "<i8", ">i4", "f2", "f4", "<f8", ">f8", "<U3"]
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: st_np.arrays(dtype, st_np.array_shapes(min_dims=0, min_side=0, max_side=3))
)
SCALARS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: st_np.arrays(dtype, 1).map(lambda array: array[0])
)
PYTHON = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
LEAVES = PYTHON | ARRAYS | SCALARS
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(VALUES)
def test_every_value_comes_back_as_what_it_was(value):
    assert same(through_a_file(value), value)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("value", [[1, [2.5]], (1, 2), np.arange(3), {"shape": 1, "float64": []}])
def test_scalers_are_saved_with_them(value, tmp_path):
    X = np.random.default_rng(0).normal(size=(20, 2))
    scaler = Parametrized(value).fit(X)
    scaler.save(tmp_path / "s.json")
    version = json.loads((tmp_path / "s.json").read_text())["version"]
    assert version == (1 if isinstance(value, tuple) else 2)
    loaded = nc.load(tmp_path / "s.json")
    assert same(loaded.value, value)
    np.testing.assert_array_equal(loaded.partial_fit(X).transform(X), scaler.transform(X))
    loaded.merge(scaler)  # as their parameters are the same


ENDLESS: list = []
ENDLESS.append(ENDLESS)


class Odd:
    pass


class Level(enum.IntEnum):
    LOW = 1


Pair = collections.namedtuple("Pair", "one other")


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    "value", ["a\ud800", ["\ud800"], {"\ud800": 1}, np.array(["\ud800"]), np.str_("\ud800")]
)
def test_text_that_is_no_unicode_is_refused(value, tmp_path):
    scaler = Parametrized(value).fit(np.eye(3))
    with pytest.raises(ValueError, match=r"parameter Parametrized.value.* a lone surrogate in"):
        scaler.save(tmp_path / "s.json")
    assert not list(tmp_path.iterdir())


def test_names_of_features_that_are_no_unicode_are_refused(tmp_path):
    scaler = nc.StandardScaler.from_statistics(mean=[1.0], std=[1.0], feature_names=["\ud800"])
    with pytest.raises(ValueError, match=r"feature name '.ud800' cannot be saved"):
        scaler.save(tmp_path / "s.json")


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("value", [np.nan, np.float32("nan"), np.array([np.nan, 1.0])])
def test_nan_is_the_same_parameter(value, tmp_path):
    scaler = Parametrized(value).fit(np.eye(3))
    scaler.save(tmp_path / "s.json")
    nc.load(tmp_path / "s.json").merge(scaler)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({1, 2}, "Parametrized.value cannot be saved: .* of type set$"),
        (1j, "of type complex$"),
        (b"x", "of type bytes$"),
        (Odd(), rf"of type {__name__}\.Odd$"),
        (np.random.RandomState(0), r"of type numpy\.random\.mtrand\.RandomState$"),
        (np.array([1j]), r"of type numpy\.ndarray of complex128$"),
        (np.array([None]), r"of type numpy\.ndarray of object$"),
        (np.eye(1, dtype=int).view(np.matrix), r"of type numpy\.matrix of int64$"),
        (np.ma.masked_array([1.5, 2], [0, 1]), r"of type numpy\.ma\.MaskedArray of float64$"),
        (np.longdouble(1), r"of type numpy\.longdouble$"),
        (collections.OrderedDict(a=1), r"of type collections\.OrderedDict$"),
        ([Pair(1, 2)], rf"value\[0\] cannot .* no classes derived .* of type {__name__}\.Pair$"),
        (ENDLESS, r"Parametrized.value cannot be saved: it holds itself, or is nested too deeply"),
        (Level.LOW, rf"of type {__name__}\.Level$"),
        ([0, (1, {"a": len})], r"value\[1\]\[1\]\['a'\] cannot .* builtin_function_or_method$"),
        ({1: 2}, "of type dict$"),
    ],
)
def test_what_json_cannot_hold_is_named_with_its_type(value, said, tmp_path):
    scaler = Parametrized(value).fit(np.eye(3))
    (tmp_path / "s.json").write_text("as it was")
    with pytest.raises(TypeError, match=said):
        scaler.save(tmp_path / "s.json")
    assert (tmp_path / "s.json").read_text() == "as it was"


@pytest.mark.parametrize(
    "damaged",
    [
        {"list": 1},
        {"dict": 1},
        {"dict": [[1, 2]]},
        {"dict": [["a"]]},
        {"lists": []},
        {"array": [1], "dtype": "O", "shape": [1]},
        {"array": [1], "dtype": "<f8", "shape": [2]},
        {"array": ["x"], "dtype": "<f8", "shape": [1]},
        {"array": [1], "dtype": "what", "shape": [1]},
        {"array": [1], "dtype": "<f8", "shape": [-1]},
        {"array": [300], "dtype": "u1", "shape": [1]},
        {"array": 1, "dtype": "<f8", "shape": []},
        {"scalar": [1], "dtype": "<f8"},
        {"scalar": "x", "dtype": "<f8"},
        {"scalar": 1, "dtype": "O"},
    ],
)
def test_damaged_values_are_refused(damaged):
    with pytest.raises(ValueError, match="parameter"):
        from_json(damaged)


def test_what_needs_no_form_of_its_own_is_plain():
    assert is_plain(to_json("x", (1, ("a", None))))
    assert not is_plain(to_json("x", (1, ([],))))
