"""Fitted attributes are the state: assigned, they take effect; written into, they do or refuse."""

import copy
import pickle
from typing import ClassVar

import numpy as np
import pytest
from assigned_attributes import CASES, READ, X, Z, assign, close, scaler_of

import normcore as nc
from normcore.statistics.wide_integers import LARGE


def peer_of(name, **params):
    return getattr(pytest.importorskip("sklearn.preprocessing"), name)(**params)


@pytest.mark.parametrize(("name", "attribute"), CASES)
def test_an_assigned_attribute_takes_effect_as_in_scikit_learn(name, attribute):
    new = np.array([0.5, -2.0, 7.0])
    mine, theirs = scaler_of(name).fit(X), peer_of(name).fit(X)
    for each in (mine, theirs):
        assign(each, attribute, new)
    close(mine.transform(Z), theirs.transform(Z))
    close(mine.inverse_transform(Z), theirs.inverse_transform(Z))
    narrow = Z.astype(np.float32)
    close(mine.transform(narrow), theirs.transform(narrow), 1e-4)


@pytest.mark.parametrize("name", READ)
def test_scaler_that_was_never_fitted(name):
    theirs = peer_of(name).fit(X)
    mine = scaler_of(name)
    for attribute in READ[name]:
        assign(mine, attribute, getattr(theirs, attribute))
    assert mine.n_features_in_ == 3
    assert mine.__sklearn_is_fitted__()
    close(mine.transform(Z), theirs.transform(Z))
    close(mine.inverse_transform(Z), theirs.inverse_transform(Z))
    assert mine.get_feature_names_out().tolist() == ["x0", "x1", "x2"]


@pytest.mark.parametrize("name", READ)
def test_attributes_of_one_column(name):
    fitted, one = scaler_of(name).fit(X), scaler_of(name)
    for attribute in READ[name]:
        assign(one, attribute, getattr(fitted, attribute)[1:2])
    close(one.transform(Z[:, 1:2]), fitted.transform(Z)[:, 1:2])


@pytest.mark.parametrize(
    ("name", "attribute", "params"),
    [
        ("StandardScaler", "scale_", {"with_mean": False}),
        ("StandardScaler", "mean_", {"with_std": False}),
        ("RobustScaler", "scale_", {"with_centering": False}),
        ("RobustScaler", "center_", {"with_scaling": False}),
    ],
)
def test_only_what_the_parameters_use_is_needed(name, attribute, params):
    new = np.array([2.0, 3.0, 4.0])
    mine = assign(scaler_of(name, **params), attribute, new)
    theirs = assign(peer_of(name, **params).fit(X), attribute, new)
    close(mine.transform(Z), theirs.transform(Z))


def test_parameters_then_take_effect_at_once():
    scaler = nc.StandardScaler(with_mean=False).fit(X)
    scaler.scale_ = [1.0, 2.0, 4.0]
    assert np.array_equal(scaler.transform(Z), Z / [1.0, 2.0, 4.0])
    scaler.with_mean = True
    close(scaler.transform(Z), (Z - scaler.mean_) / [1.0, 2.0, 4.0])
    scaler.scale_ = [1.0, 1.0, 1.0]
    close(scaler.transform(Z), Z - scaler.mean_)
    scaler.set_params(with_std=False, with_mean=False)
    assert np.array_equal(scaler.transform(Z), Z)


def test_clip_is_still_heeded():
    scaler = nc.MinMaxScaler(clip=True).fit(X)
    scaler.min_ = scaler.min_ + 10.0
    assert (scaler.transform(Z) == 1.0).all()


CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "float32": lambda v: np.array(v, np.float32),
    "foreign byte order": lambda v: np.array(v, ">f8"),
    "integers": lambda v: np.array(v, np.int16),
    "strided": lambda v: np.array([v, v]).T.ravel()[::2],
    "objects": lambda v: np.array(v, object),
    "pandas": lambda v: pytest.importorskip("pandas").Series(v, dtype="Float64"),
    "pandas of Arrow": lambda v: pytest.importorskip("pandas").Series(v, dtype="double[pyarrow]"),
    "polars": lambda v: pytest.importorskip("polars").Series(v),
    "Arrow": lambda v: pytest.importorskip("pyarrow").array(v),
    "chunked": lambda v: pytest.importorskip("pyarrow").chunked_array([v[:1], v[1:]]),
    "masked": lambda v: np.ma.masked_array(v, [False] * 3),
    "torch": lambda v: pytest.importorskip("torch").tensor(v),
    "torch with gradients": lambda v: pytest.importorskip("torch").tensor(v, requires_grad=True),
    "torch bfloat16": lambda v: (t := pytest.importorskip("torch")).tensor(v, dtype=t.bfloat16),
    "strict": lambda v: pytest.importorskip("array_api_strict").asarray(v),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_containers(container):
    scaler = nc.StandardScaler().fit(X)
    scaler.scale_ = CONTAINERS[container]([2.0, 4.0, 8.0])
    close(scaler.transform(Z), (Z - scaler.mean_) / [2.0, 4.0, 8.0])
    again = nc.StandardScaler.from_dict(scaler.to_dict())
    assert np.array_equal(again.transform(Z), scaler.transform(Z))


def test_missing_values_are_features_without_values():
    pd = pytest.importorskip("pandas")
    scaler = nc.StandardScaler()
    scaler.mean_, scaler.scale_ = [1.0, pd.NA, None], [2.0, 2.0, 2.0]
    y = scaler.transform([[3.0, 3.0, 3.0]])
    assert y[0, 0] == 1.0
    assert np.isnan(y[0, 1:]).all()


def test_one_number_stands_for_all_features_that_are_known():
    scaler = nc.StandardScaler().fit(X)
    scaler.scale_ = 2.0
    assert scaler.scale_.tolist() == [2.0] * 3
    with pytest.raises(ValueError, match="scale_ must have shape"):
        nc.StandardScaler().scale_ = 2.0


def test_scale_of_zero_is_that_of_a_constant_feature():
    scaler = nc.StandardScaler()
    scaler.mean_, scaler.scale_ = [1.0, 1.0], [0.0, 2.0]
    assert scaler.scale_.tolist() == [1.0, 2.0]
    assert scaler.transform([[4.0, 5.0]]).tolist() == [[3.0, 2.0]]
    flat = nc.MinMaxScaler()
    flat.min_, flat.scale_ = [3.0], [0.0]
    assert flat.transform([[5.0]]).tolist() == [[3.0]]
    with pytest.raises(ValueError, match="cannot invert"):
        flat.inverse_transform([[3.0]])


@pytest.mark.parametrize(("name", "attribute"), CASES)
@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ([1.0, 2.0], ValueError, r"must have shape \(3,\)"),
        ([[1.0, 2.0, 3.0]], ValueError, r"must have shape \(3,\)"),
        ([], ValueError, r"must have shape \(3,\)"),
        ([[1.0], [1.0, 2.0]], ValueError, "no array"),
        ([1.0, np.inf, 3.0], ValueError, r"finite, but is inf for column 'b' \(index 1\)"),
        ([1.0, 10**400, 3.0], ValueError, "beyond the largest float64"),
        (["1", "2", "3"], TypeError, "must hold real numbers"),
        ([1.0, "2", 3.0], TypeError, "must hold real numbers"),
        ([1.0, 2j, 3.0], TypeError, "must hold real numbers"),
        (np.array(["2020", "2021", "2022"], "M8[Y]"), TypeError, "must hold real numbers"),
        ([len] * 3, TypeError, "must hold real numbers"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_by_name(name, attribute, bad, error, message):
    pd = pytest.importorskip("pandas")
    scaler = scaler_of(name).fit(pd.DataFrame(X, columns=["a", "b", "c"]))
    frame = pd.DataFrame(Z, columns=["a", "b", "c"])
    before = scaler.transform(frame)
    with pytest.raises(error, match=message) as caught:
        setattr(scaler, attribute, bad)
    assert f"{name}.{attribute}" in str(caught.value)
    assert np.array_equal(scaler.transform(frame), before)
    if hasattr(scaler, "partial_fit"):
        scaler.partial_fit(frame)


@pytest.mark.parametrize("bad", [0, -1, True, 2.5, "3"])
def test_numbers_of_features_that_make_no_sense(bad):
    with pytest.raises((ValueError, TypeError), match="n_features_in_ must be"):
        nc.StandardScaler().n_features_in_ = bad


def test_other_number_of_features():
    scaler = nc.StandardScaler().fit(X)
    scaler.n_features_in_ = 2
    with pytest.raises(ValueError, match=r"mean_ must have shape \(2,\).*got shape \(3,\)"):
        scaler.transform(Z[:, :2])
    scaler.mean_ = [1.0, 2.0]
    with pytest.raises(ValueError, match=r"scale_ must have shape \(2,\)"):
        scaler.transform(Z[:, :2])
    scaler.scale_ = [3.0, 4.0]
    close(scaler.transform(Z[:, :2]), (Z[:, :2] - [1.0, 2.0]) / [3.0, 4.0])
    assert nc.StandardScaler.from_dict(scaler.to_dict()).n_features_in_ == 2


def test_attributes_that_lack_others():
    scaler = nc.StandardScaler()
    scaler.scale_ = [1.0, 2.0]
    assert not scaler.__sklearn_is_fitted__()
    with pytest.raises(ValueError, match="has no mean_; assign it too"):
        scaler.transform([[1.0, 2.0]])
    with pytest.raises(ValueError, match="not fitted"):
        scaler.to_dict()
    scaler.mean_ = None
    with pytest.raises(ValueError, match=r"mean_ is None, but the map needs it.*with_mean=False"):
        scaler.transform([[1.0, 2.0]])
    scaler.with_mean = False
    assert scaler.transform([[1.0, 2.0]]).tolist() == [[1.0, 1.0]]
    del scaler.scale_
    with pytest.raises(AttributeError, match="no attribute 'scale_'"):
        _ = scaler.scale_


def test_fit_forgets_what_was_assigned():
    scaler = nc.StandardScaler()
    scaler.mean_, scaler.scale_ = [1.0], [2.0]
    fresh = nc.StandardScaler().fit(X)
    assert np.array_equal(scaler.fit(X).transform(Z), fresh.transform(Z))
    assert np.array_equal(scaler.partial_fit(Z).transform(Z), fresh.partial_fit(Z).transform(Z))


@pytest.mark.parametrize(
    ("name", "attribute"),
    [case for case in CASES if case[0] != "RobustScaler"]
    + [
        ("StandardScaler", "var_"),
        ("StandardScaler", "n_samples_seen_"),
        ("MinMaxScaler", "data_max_"),
    ],
)
def test_learning_does_not_go_on_from_what_was_assigned(name, attribute):
    scaler, other = scaler_of(name).fit(X), scaler_of(name).fit(X)
    setattr(scaler, attribute, getattr(scaler, attribute))
    with pytest.raises(ValueError, match=rf"partial_fit: {attribute} was assigned, so what was ob"):
        scaler.partial_fit(X)
    for one, another in ((scaler, other), (other, scaler)):
        with pytest.raises(ValueError, match=f"merge: {attribute} was assigned"):
            one.merge(another)
    never = scaler_of(name)
    for each in READ[name]:
        assign(never, each, [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"without a count.*fit.*from_statistics"):
        never.partial_fit(X)


def test_what_a_subclass_adds_is_its_own():
    class Noted(nc.StandardScaler):
        def fit(self, X, y=None, sample_weight=None):
            super().fit(X, y, sample_weight)
            self.note_ = "x"
            return self

    scaler = Noted().fit(X)
    scaler.note_ = "y"
    assert scaler.partial_fit(X).n_samples_seen_ == 120


@pytest.mark.parametrize(("name", "attribute"), CASES)
def test_arrays_are_read_only_and_stay_so(name, attribute, tmp_path):
    scaler = scaler_of(name).fit(X)
    given = np.array([1.0, 2.0, 3.0])
    assigned = assign(scaler_of(name).fit(X), attribute, given)
    given[0] = 100.0  # the scaler has a copy
    assert getattr(assigned, attribute)[0] == 1.0
    nc.StandardScaler().fit(X)
    scaler.save(tmp_path / "s.json")
    for each in (
        scaler,
        assigned,
        copy.copy(scaler),
        copy.deepcopy(scaler),
        pickle.loads(pickle.dumps(assigned)),
        nc.load(tmp_path / "s.json"),
    ):
        array = getattr(each, attribute)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 5.0
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True


def test_other_arrays_are_read_only_too():
    weighted = nc.StandardScaler().fit([[1.0, np.nan], [2.0, 3.0]])
    for scaler, names in (
        (weighted, ("var_", "n_samples_seen_")),
        (nc.MinMaxScaler().fit(X), ("data_min_", "data_max_", "data_range_")),
        (nc.MaxAbsScaler().fit(X), ("max_abs_",)),
    ):
        for name in names:
            with pytest.raises(ValueError, match="read-only"):
                getattr(scaler, name)[0] = 1


@pytest.mark.parametrize("fitted", [True, False])
@pytest.mark.parametrize(("name", "attribute"), CASES)
def test_saved_and_copied_with_what_was_assigned(name, attribute, fitted, tmp_path):
    scaler = scaler_of(name)
    if fitted:
        scaler.fit(X)
    else:
        for each in READ[name]:
            assign(scaler, each, [1.5, np.nan, -3.0])
    setattr(scaler, attribute, [0.1, 2.0, 1e300])
    scaler.feature_names_in_ = ["a", "b", "c"]
    scaler.save(tmp_path / "s.json")
    loaded = nc.load(tmp_path / "s.json")
    for again in (loaded, copy.deepcopy(scaler), pickle.loads(pickle.dumps(scaler))):
        assert np.array_equal(again.transform(named(Z)), scaler.transform(named(Z)), equal_nan=True)
        assert getattr(again, attribute).tolist() == [0.1, 2.0, 1e300]
        assert again.get_feature_names_out().tolist() == ["a", "b", "c"]
        if name != "RobustScaler":
            with pytest.raises(ValueError, match=r"assigned|count"):
                again.partial_fit(named(X))
    if fitted and name == "StandardScaler":
        assert np.array_equal(loaded.var_, scaler.var_)


def named(x):
    return pytest.importorskip("pandas").DataFrame(x, columns=["a", "b", "c"])


def test_cloned_without_what_was_assigned():
    sklearn = pytest.importorskip("sklearn")
    scaler = nc.StandardScaler(with_mean=False)
    scaler.scale_ = [1.0]
    assert not hasattr(sklearn.base.clone(scaler), "scale_")


def test_output_containers_are_as_chosen():
    pd = pytest.importorskip("pandas")
    scaler = nc.StandardScaler(with_mean=False).set_output(transform="pandas")
    scaler.scale_ = [1.0, 2.0]
    assert isinstance(scaler.transform([[1.0, 2.0]]), pd.DataFrame)


class Shifted(nc.AffineScaler):
    """A plugin's scaler, which sets a center and leaves scale_ to the base."""

    statistic = nc.Extrema

    def affine(self, extrema):
        self.low_ = extrema.min
        return nc.Affine(center=self.low_, scale=extrema.max - extrema.min, gamma=2.0, beta=-1.0)


class Declared(Shifted):
    coefficients: ClassVar = {"low_": "center", "scale_": "scale"}


def test_scalers_of_plugins():
    plain = Shifted().fit(X)
    low = plain.low_
    plain.scale_ = [1.0, 2.0, 3.0]
    close(plain.transform(Z), (Z - low) / [1.0, 2.0, 3.0] * 2.0 - 1.0)
    declared = Declared().fit(X)
    declared.low_ = [5.0, 5.0, 5.0]
    close(declared.transform(Z), (Z - 5.0) / declared.scale_ * 2.0 - 1.0)
    close(declared.inverse_transform(declared.transform(Z)), Z)


def test_wide_integers_keep_their_digits():
    clocks = np.array([[2**60 + 1], [2**60 + 5], [2**60 + 9]])
    scaler = nc.StandardScaler().fit(clocks)
    exact = scaler.transform(clocks)
    scale = scaler.scale_
    scaler.scale_ = 2 * scale
    close(scaler.transform(clocks), exact / 2)
    scaler.mean_ = [2.0**60]
    assert scaler.mean_[0] > LARGE
    close(scaler.transform(clocks), np.array([[1], [5], [9]]) / (2 * scale))


def test_pickles_of_earlier_versions(tmp_path):
    scaler = nc.StandardScaler().fit(X)
    state = {
        name: np.array(value) if name.endswith("_") and isinstance(value, np.ndarray) else value
        for name, value in vars(scaler).items()
        if name not in ("_learned", "_assigned")
    }
    old = object.__new__(nc.StandardScaler)
    old.__setstate__(state)
    assert np.array_equal(old.transform(Z), scaler.transform(Z))
    assert not old.mean_.flags.writeable
    assert np.array_equal(old.partial_fit(Z).mean_, scaler.partial_fit(Z).mean_)
