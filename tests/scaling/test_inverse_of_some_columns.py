"""``inverse_transform(X, columns=...)``: scaled data of some features, of every scaler."""

import numpy as np
import pytest
from scalers import SCALERS

import normcore as nc


class Cubed(nc.PointwiseScaler):
    """A map that is not affine, as someone else writes it, and whose result depends on fit."""

    statistic = nc.Extrema

    def prepare(self, extrema):
        self.size_ = extrema.max

    def forward(self, xp, x):
        return (x / xp.asarray(self.size_)) ** 3

    def inverse(self, xp, x):
        return xp.sign(x) * xp.abs(x) ** (1 / 3) * xp.asarray(self.size_)


each_scaler = pytest.mark.parametrize("cls", [*SCALERS, nc.MaxAbsScaler, Cubed])
NAMES = ["a", "b", "c", "d", "e"]
CHOICES = [["d", "b"], [3, 1], [-2, 1], np.array([3, 1]), ("d", "b"), np.array(["d", "b"])]


def data(dtype=np.float64):
    return (np.random.default_rng(2).normal(4, 3, size=(30, 5)) * [1, 10, 100, 3, 2]).astype(dtype)


@pytest.fixture
def frame():
    return pytest.importorskip("pandas").DataFrame(data(), columns=NAMES)


@each_scaler
@pytest.mark.parametrize("columns", CHOICES, ids=repr)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_it_is_that_part_of_the_whole_inverse(cls, frame, columns, dtype):
    scaler = cls().fit(frame)
    scaled = scaler.transform(frame).astype(dtype)
    whole = scaler.inverse_transform(scaled)
    some = scaler.inverse_transform(scaled[:, [3, 1]], columns=columns)
    assert some.dtype == dtype
    np.testing.assert_array_equal(some, whole[:, [3, 1]])


@each_scaler
def test_masks_slices_and_names_given_by_position(cls):
    scaler = cls().fit(data())
    scaled = scaler.transform(data())
    whole = scaler.inverse_transform(scaled)
    for columns in (slice(1, None, 2), [False, True, False, True, False], ["x1", "x3"]):
        some = scaler.inverse_transform(scaled[:, [1, 3]], columns=columns)
        np.testing.assert_array_equal(some, whole[:, [1, 3]])


@each_scaler
def test_into_out_and_in_place(cls):
    scaler = cls().fit(data())
    scaled = scaler.transform(data())[:, [4, 0]].copy()
    expected = scaler.inverse_transform(scaled, columns=[4, 0])
    out = np.empty_like(scaled)
    assert scaler.inverse_transform(scaled, columns=[4, 0], out=out) is out
    np.testing.assert_array_equal(out, expected)
    scaler.copy = False
    assert scaler.inverse_transform(scaled, columns=[4, 0]) is scaled
    np.testing.assert_array_equal(scaled, expected)


@each_scaler
def test_of_frames(cls, frame):
    scaler = cls().fit(frame).set_output(transform="pandas")
    scaled = scaler.transform(frame)[["e", "b"]]
    some = scaler.inverse_transform(scaled, columns=["e", "b"])
    assert list(some.columns) == ["e", "b"]
    whole = scaler.inverse_transform(scaler.transform(frame))
    np.testing.assert_array_equal(some, whole[["e", "b"]])
    with pytest.raises(ValueError, match="must be in the same order"):
        scaler.inverse_transform(scaled, columns=["b", "e"])


@each_scaler
def test_under_a_mask(cls):
    scaler = cls().fit(data())
    scaled = scaler.transform(data())[:, [4, 0]].copy()
    where = np.arange(60).reshape(30, 2) % 3 != 0
    scaled[~where] = np.inf  # hidden, so it may be anything
    some = scaler.inverse_transform(scaled, columns=[4, 0], where=where)
    np.testing.assert_array_equal(some[~where], np.inf)
    shown = np.where(where, scaled, 0)
    expected = scaler.inverse_transform(shown, columns=[4, 0])
    np.testing.assert_array_equal(some[where], expected[where])


def test_arrays_of_other_axes_have_no_columns():
    scaler = nc.StandardScaler(axis=1).fit(data())
    with pytest.raises(ValueError, match="columns= is for tables"):
        scaler.inverse_transform(data(), columns=[1])


def test_of_sparse_matrices():
    sp = pytest.importorskip("scipy.sparse")
    X = sp.csr_array(np.maximum(data() - 5, 0))
    scaler = nc.MaxAbsScaler().fit(X)
    whole = scaler.inverse_transform(X).toarray()
    for format in ("csr", "csc"):
        some = scaler.inverse_transform(X[:, [4, 2]].asformat(format), columns=[4, 2])
        np.testing.assert_array_equal(some.toarray(), whole[:, [4, 2]])


def test_of_tensors():
    torch = pytest.importorskip("torch")
    for cls in (nc.StandardScaler, Cubed):
        scaler = cls().fit(data())
        scaled = torch.from_numpy(scaler.transform(data()))
        some = scaler.inverse_transform(scaled[:, [4, 2]], columns=[4, 2])
        assert isinstance(some, torch.Tensor)
        expected = scaler.inverse_transform(scaled.numpy())[:, [4, 2]]
        np.testing.assert_allclose(some.numpy(), expected, rtol=1e-15)


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        (["b", "z"], ValueError, r"unknown columns \['z'\]; the features are 'a', 'b', 'c', 'd'"),
        ([1, 5], ValueError, "column 5 is not among the 5 features"),
        ([1, -6], ValueError, "column -6 is not among"),
        (["b", 1], TypeError, "names or positions of features alone, and not 'b'"),
        ([1.0, 2.0], TypeError, "and not 1.0"),
        ("ab", TypeError, "columns must be a list of names or positions, got 'ab'"),
        (1, TypeError, "columns must be a list"),
        ([], ValueError, "columns names no feature"),
        (["b", "b"], ValueError, r"columns names feature 'b' \(position 1\) twice"),
        ([1, -4], ValueError, "twice"),
        ([True, True], ValueError, "a mask of 2, but there are 5 features"),
        ([0, 1, 2], ValueError, "X has 2 columns, but columns names 3"),
    ],
    ids=repr,
)
def test_bad_columns(frame, columns, error, message):
    scaler = nc.StandardScaler().fit(frame)
    with pytest.raises(error, match=message):
        scaler.inverse_transform(np.zeros((3, 2)), columns=columns)


@each_scaler
def test_an_infinity_is_named_by_its_feature(cls, frame):
    scaler = cls().fit(frame)
    with pytest.raises(ValueError, match=r"infinity: column 'd' \(index 0\), first at row 1"):
        scaler.inverse_transform(np.array([[0.0, 1], [np.inf, 2]]), columns=["d", "b"])
