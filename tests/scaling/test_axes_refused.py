"""axis= that makes no sense, and data that do not go with it."""

from __future__ import annotations

import feature_arrays as fa
import numpy as np
import pytest

import normcore as nc
from normcore.io import fit_file, transform_file

pytestmark = pytest.mark.filterwarnings("ignore:n_quantiles")  # of little data
each_scaler = pytest.mark.parametrize("cls", fa.scalers(), ids=lambda cls: cls.__name__)


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        (3, r"axis 3 is out of range for X of shape \(2, 3, 4\)"),
        (-4, r"axis -4 is out of range"),
        ((0, 5), r"axis 5 is out of range"),
        ((1, 1), r"axis=\(1, 1\) names an axis twice"),
        ((1, -2), r"axis=\(1, -2\) names an axis twice for X of shape \(2, 3, 4\)"),
        ("rows", "axis must be 'columns', an integer, a tuple of integers or None, not 'rows'"),
        (1.0, "not 1.0"),
        (True, "not True"),
        ((0, "x"), "axis must be"),
    ],
)
@each_scaler
def test_axes_that_make_no_sense(cls, axis, message):
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    scaler = cls(axis=None).fit(x)
    before = scaler.transform(x)
    scaler.axis = axis
    with pytest.raises(ValueError, match=message):
        scaler.fit(x)
    np.testing.assert_array_equal(scaler.transform(x), before, "a failed fit left traces")


@each_scaler
def test_other_sizes_of_features(cls):
    x = np.random.default_rng(0).standard_normal((4, 3, 5))
    scaler = cls(axis=(1, 2)).fit(x)
    message = r"X has shape \(4, 5, 3\), which is \(5, 3\) along axis=\(1, 2\), but \w+ is expect"
    with pytest.raises(ValueError, match=message):
        scaler.transform(x.swapaxes(1, 2))
    with pytest.raises(ValueError, match="out of range"):
        scaler.inverse_transform(x[0])
    if fa.streaming(cls) == {}:
        with pytest.raises(ValueError, match="is expecting"):
            scaler.partial_fit(x.swapaxes(1, 2))
        with pytest.raises(ValueError, match=r"features of shape \(3, 5\), not \(5, 3\)"):
            scaler.merge(cls(axis=(1, 2)).fit(x.swapaxes(1, 2)))
        with pytest.raises(ValueError, match="cannot merge scalers with other parameters: axis"):
            scaler.merge(cls(axis=(0, 1)).fit(x))
        scaler.axis = None
        with pytest.raises(ValueError, match=r"axis was \(1, 2\) when this \w+ was fitted and is"):
            scaler.partial_fit(x)


@each_scaler
def test_bad_input_is_named(cls):
    x = np.random.default_rng(0).standard_normal((4, 3, 5))
    scaler = cls(axis=1).fit(x)
    broken = x.copy()
    broken[2, 1, 3] = np.inf
    for attempt in (scaler.fit, scaler.transform):
        with pytest.raises(ValueError, match=r"infinity, first at index \(2, 1, 3\)"):
            attempt(broken)
        with pytest.raises(ValueError, match=r"0 elements \(shape=\(0, 3, 5\)\)"):
            attempt(x[:0])
        with pytest.raises(TypeError, match="masked array"):
            attempt(np.ma.masked_array(x))
        with pytest.raises(ValueError, match="text"):
            attempt(x.astype(str))
        with pytest.raises(ValueError, match="Complex"):
            attempt(x.astype(complex))
    in_place = broken.copy()
    with pytest.raises(ValueError, match="infinity"):
        scaler.transform(in_place, out=in_place)
    np.testing.assert_array_equal(in_place, broken)


@each_scaler
def test_lazy_frames_need_columns(cls):
    pl = pytest.importorskip("polars")
    scaler = cls(axis=1).fit(np.random.default_rng(0).standard_normal((4, 3, 5)))
    for attempt in (scaler.fit, scaler.transform):
        with pytest.raises(TypeError, match="lazy frames have columns alone"):
            attempt(pl.DataFrame(np.eye(3)).lazy())


def test_tables_in_files_need_columns(tmp_path):
    pytest.importorskip("pyarrow")
    x = np.random.default_rng(0).standard_normal((4, 3))
    np.savetxt(tmp_path / "x.csv", x, delimiter=",", header="a,b,c", comments="")
    for cls in (nc.StandardScaler, nc.RobustScaler):
        with pytest.raises(ValueError, match="axis=None is for arrays"):
            fit_file(tmp_path / "x.csv", cls(axis=None))


def test_frames_need_columns():
    pytest.importorskip("pandas")
    x = np.random.default_rng(0).standard_normal((4, 3))
    framed = nc.StandardScaler(axis=1).set_output(transform="pandas")
    np.testing.assert_array_equal(framed.fit_transform(x), nc.StandardScaler().fit_transform(x))
    wide = x[:, :, None].copy()
    framed.fit(wide)
    framed.copy = False
    with pytest.raises(ValueError, match=r"is for tables, and X has 3 dimensions"):
        framed.transform(wide)
    np.testing.assert_array_equal(wide[..., 0], x)


@pytest.mark.parametrize(
    "features",
    [
        None,
        {},
        {"shape": [3, 4], "ndim": 3},
        {"shape": [5, 3], "ndim": 3},
        {"shape": [3, 5], "ndim": 1},
        {"shape": [3, -5], "ndim": 3},
        {"shape": [3.0, 5], "ndim": 3},
        {"shape": [15], "ndim": 3},
        {"shape": 15, "ndim": 3},
        {"shape": [3, 5], "ndim": True},
    ],
)
def test_damaged_sizes_in_a_file(features, tmp_path):
    scaler = nc.StandardScaler(axis=(1, 2)).fit(np.random.default_rng(0).random((4, 3, 5)))
    saved = scaler.to_dict()
    saved["features"] = features
    if features == {"shape": [5, 3], "ndim": 3}:  # possible, and another scaler
        assert nc.StandardScaler.from_dict(saved).mean_.shape == (5, 3)
        return
    with pytest.raises(ValueError, match="saved"):
        nc.StandardScaler.from_dict(saved)


@pytest.mark.parametrize("axis", [0, 1, None, (0, 1)], ids=str)
def test_tables_that_have_columns_alone_are_refused(axis):
    sparse = pytest.importorskip("scipy.sparse")
    lazy = pytest.importorskip("polars").DataFrame(np.eye(3)).lazy()
    X = np.arange(9.0).reshape(3, 3) ** 2
    for scaler in (nc.MaxAbsScaler(axis=axis), nc.QuantileTransformer(axis=axis, n_quantiles=3)):
        for call in (scaler.fit, scaler.fit(X).transform, scaler.inverse_transform):
            with pytest.raises(TypeError, match=r"have columns alone: .* needs axis='columns'"):
                call(lazy)
    with pytest.raises(TypeError, match="sparse matrices have columns alone: StandardScaler"):
        nc.centered(sparse.csr_matrix(X), nc.StandardScaler(axis=axis).fit(X))


@pytest.mark.parametrize("axis", [0, 1, None], ids=str)
def test_files_are_refused(axis, tmp_path):
    X = np.arange(9.0).reshape(3, 3) ** 2
    np.save(tmp_path / "table.npy", X)
    scaler = nc.StandardScaler(axis=axis).fit(X)
    with pytest.raises(ValueError, match=f"axis={axis} is for arrays; for .*table.npy"):
        transform_file(tmp_path / "table.npy", tmp_path / "scaled.npy", scaler)
    assert not (tmp_path / "scaled.npy").exists()
