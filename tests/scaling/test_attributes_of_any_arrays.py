"""Fitted attributes of other libraries, which can be written into, and of features of any axes."""

import copy
import pickle

import numpy as np
import pytest
from assigned_attributes import CASES, X, Z, assign, close, scaler_of

import normcore as nc

FOREIGN = {
    "torch": lambda x: pytest.importorskip("torch").from_numpy(x.copy()),
    "strict": lambda x: pytest.importorskip("array_api_strict").asarray(x.copy()),
}


@pytest.mark.parametrize(("name", "attribute"), CASES)
@pytest.mark.parametrize("library", FOREIGN)
def test_writing_into_arrays_of_other_libraries_takes_effect(library, name, attribute, tmp_path):
    pytest.importorskip("array_api_compat")
    foreign = FOREIGN[library]
    scaler = scaler_of(name).fit(foreign(X))
    fitted = scaler.transform(Z)
    held = getattr(scaler, attribute)
    assert np.array_equal(scaler.transform(Z), fitted)
    numbers = np.array(np.from_dlpack(held))
    for index in (0, 2):  # again and again, by a reference that is kept
        held[index] = numbers[index] = 3.0 + index
        expected = assign(scaler_of(name).fit(X), attribute, numbers)
        assert np.array_equal(scaler.transform(Z), expected.transform(Z))
        assert np.array_equal(scaler.inverse_transform(Z), expected.inverse_transform(Z))
    if hasattr(scaler, "partial_fit"):
        with pytest.raises(ValueError, match=f"{attribute} was assigned"):
            scaler.partial_fit(foreign(X))
    scaler.save(tmp_path / "s.json")
    for again in (copy.deepcopy(scaler), pickle.loads(pickle.dumps(scaler))):
        assert np.array_equal(again.transform(Z), expected.transform(Z))
        getattr(again, attribute)[1] = 11.0
        assert not np.array_equal(again.transform(Z), expected.transform(Z))
    assert np.array_equal(nc.load(tmp_path / "s.json").transform(Z), expected.transform(Z))
    assert np.array_equal(scaler.transform(Z), expected.transform(Z))
    held[1] = np.inf
    with pytest.raises(ValueError, match=rf"{attribute} must be finite"):
        scaler.transform(Z)


def test_written_before_anything_else_was_asked():
    torch = pytest.importorskip("torch")
    pytest.importorskip("array_api_compat")
    scaler = nc.StandardScaler().fit(torch.from_numpy(X.copy()))
    scaler.mean_[:] = 0.0
    with pytest.raises(ValueError, match="mean_ was assigned"):
        scaler.partial_fit(X)
    assert scaler.to_dict()["attributes"]["mean_"].tolist() == [0.0, 0.0, 0.0]
    assert scaler.fit(X).partial_fit(X).n_samples_seen_ == 120


def test_fitting_again_ends_the_watch():
    torch = pytest.importorskip("torch")
    pytest.importorskip("array_api_compat")
    scaler = nc.StandardScaler().fit(torch.from_numpy(X.copy()))
    held = scaler.mean_
    scaler.fit(X)
    held[0] = 1e9
    assert np.array_equal(scaler.transform(Z), nc.StandardScaler().fit(X).transform(Z))
    assert "_affine" in vars(scaler)


IMAGES = np.random.default_rng(3).normal(5.0, 2.0, (6, 3, 4, 2))
AXES = {1: (3,), (1, 2): (3, 4), -1: (2,), None: ()}


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("fitted", [True, False])
def test_arrays_of_any_axes(axis, fitted, tmp_path):
    shape = AXES[axis]
    mean, scale = (
        np.full(shape, 4.0),
        np.arange(1.0, 1.0 + np.prod(shape, dtype=int)).reshape(shape),
    )
    scaler = nc.StandardScaler(axis=axis)
    if fitted:
        scaler.fit(IMAGES)
    scaler.mean_, scaler.scale_ = mean, scale
    assert scaler.scale_.shape == shape
    axes = axis if isinstance(axis, tuple) else () if axis is None else (axis % 4,)
    wide = np.expand_dims(scale, tuple(set(range(4)) - set(axes)))
    expected = (IMAGES - 4.0) / wide
    scaler.save(tmp_path / "s.json")
    known = nc.StandardScaler.from_statistics(mean=mean, std=scale, axis=axis)
    for each in (scaler, nc.load(tmp_path / "s.json"), copy.deepcopy(scaler), known):
        assert np.array_equal(each.transform(IMAGES), expected)
        close(each.inverse_transform(expected), IMAGES)
    with pytest.raises(ValueError, match=r"scale_ must have shape|features have shape"):
        scaler.scale_ = np.ones((*shape, 7))
    with pytest.raises(ValueError, match=r"scale_ must be finite.*(axis|axes|all of it)"):
        scaler.scale_ = np.full(shape, np.inf)


def test_axes_counted_from_both_ends_need_data():
    scaler = nc.StandardScaler(axis=(1, -1))
    with pytest.raises(ValueError, match="counts from both ends"):
        scaler.scale_ = np.ones((3, 2))


def test_far_values_under_a_mask():
    x = np.array([[1.7e308, 1.0], [1.7e308, np.inf], [-1.7e308, 3.0]])
    mask = np.isfinite(x)
    scaler = nc.StandardScaler().fit(x, where=mask)
    y = scaler.transform(x, where=mask)
    assert np.isfinite(y[mask]).all()
    assert y[1, 1] == np.inf
    np.testing.assert_allclose(scaler.inverse_transform(y, where=mask)[mask], x[mask])
    chosen = scaler.inverse_transform(y[[0, 2]][:, :1], columns=[0])
    np.testing.assert_allclose(chosen, x[[0, 2]][:, :1])
