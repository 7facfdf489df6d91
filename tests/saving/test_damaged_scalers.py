"""Saved scalers damaged on purpose, each field in each way: refused, with file and reason."""

import copy
import json
import math

import numpy as np
import pytest

import normcore as nc

X = np.random.default_rng(8).normal(3.0, 2.0, (12, 3))
X[:, 2] = np.nan  # a feature without values


def fitted(name, **params):
    return getattr(nc, name)(**params).fit(X)


def assigned():
    scaler = fitted("StandardScaler")
    scaler.scale_ = [1.0, 2.0, 3.0]
    return scaler


def never_fitted():
    scaler = nc.RobustScaler(with_centering=False)
    scaler.scale_ = [1.0, 2.0, 3.0]
    return scaler


SCALERS = {
    "standard": lambda: fitted("StandardScaler"),
    "minmax": lambda: fitted("MinMaxScaler"),
    "robust": lambda: fitted("RobustScaler"),
    "robust with a sketch": lambda: fitted("RobustScaler", keep_sketch=True),
    "maxabs": lambda: fitted("MaxAbsScaler"),
    "assigned": assigned,
    "never fitted": never_fitted,
    "known": lambda: nc.StandardScaler.from_statistics(mean=[1.0, 2.0, 3.0], std=1.0),
    "other axes": lambda: nc.StandardScaler(axis=0).fit(X[:2].T),
}


@pytest.fixture(params=SCALERS)
def saved(request, tmp_path):
    path = tmp_path / "scaler.json"
    SCALERS[request.param]().save(path)
    return path


def refused(path, content, *words):
    """Load a changed file, which must fail and say which and why."""
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"scaler\.json") as caught:
        nc.load(path)
    said = str(caught.value)
    assert len(said) < 600
    assert all(word in said for word in words), said
    return said


def places(content, at=()):
    """Yield the way to every value of a description."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield (*at, key)
            if set(value if isinstance(value, dict) else ()) != {"shape", "float64"}:
                yield from places(value, (*at, key))


def changed(content, at, value):
    content = copy.deepcopy(content)
    inner = content
    for key in at[:-1]:
        inner = inner[key]
    if value is KeyError:
        del inner[at[-1]]
    else:
        inner[at[-1]] = value
    return content


#: What people read, or what says nothing that could be wrong.
FREE = {("class",), ("params", "backend"), ("statistic", "exact")}
WRONG = [{}, {"a": 1}, [[]], "damaged", -1, 2.5, 1e400, True, "nan"]


def test_every_field_of_another_kind(saved):
    content = json.loads(saved.read_text())
    for at in places(content):
        if at in FREE or at[:1] == ("params",):
            continue
        for wrong in WRONG:
            before = content
            for key in at:
                before = before[key]
            if wrong == before or (at[:1] == ("attributes",) and wrong == -1 and len(at) > 1):
                continue
            if at == ("attributes",) and wrong == {}:
                continue
            refused(saved, changed(content, at, wrong))


def test_every_field_missing(saved):
    content = json.loads(saved.read_text())
    for at in places(content):
        if at in FREE or at[0] in ("params", "attributes"):
            continue
        refused(saved, changed(content, at, KeyError))


def test_every_field_there_twice(saved):
    text = saved.read_text()
    for line in text.splitlines()[1:-1]:
        name = json.loads("{" + line.strip().rstrip(",") + "}").popitem()[0]
        saved.write_text(text.replace(line, line.rstrip(",") + ",\n" + line))
        with pytest.raises(ValueError, match=rf"scaler\.json is damaged.*{name!r} is there twice"):
            nc.load(saved)


def arrays(content):
    for at in places(content):
        value = content
        for key in at:
            value = value[key]
        if isinstance(value, dict) and set(value) == {"shape", "float64"}:
            yield at, value


SHAPES = [
    [], [0], [-1], [2.5], [True], ["3"], [10**30], [3, 3, 3, 3], 3, None, {}, [[3]], [math.inf]
]  # fmt: skip


def test_every_array_of_another_shape(saved):
    content = json.loads(saved.read_text())
    for at, array in arrays(content):
        for shape in SHAPES:
            if shape != array["shape"]:
                refused(saved, changed(content, (*at, "shape"), shape))
        for numbers in (array["float64"][:-1], [*array["float64"], 0.0], "1.0", None, 7):
            refused(saved, changed(content, (*at, "float64"), numbers))
        for bad in ("x", None, True, [1.0], {}, 10**400, "1.0"):
            if array["float64"]:
                numbers = [bad, *array["float64"][1:]]
                refused(saved, changed(content, (*at, "float64"), numbers))


def test_arrays_of_fewer_features(saved):
    """All arrays agree with each other, and not with the number of features."""
    content = json.loads(saved.read_text())
    for each in (2, 4, 10**9):
        refused(saved, {**content, "n_features_in": each})


#: What no data has: the array, the row in it or None, what replaces the first number, the reason.
IMPOSSIBLE = {
    "standard": [
        ("parts", 0, -1.0, "counts of moments must be finite and not negative"),
        ("parts", 0, "inf", "counts of moments"),
        ("parts", 0, "nan", "not finite"),
        ("parts", 0, 0.0, "moments of nothing"),
        ("parts", 1, 5.0, "low part"),
        ("parts", 2, "inf", "not finite"),
        ("parts", 2, "nan", "not finite"),
        ("parts", 3, 1.0, "low part"),
        ("parts", 4, -1.0, "sum of squares is negative"),
        ("parts", 4, "nan", "not finite"),
        ("parts", 5, 1e300, "low part"),
        ("parts", 6, "inf", "exponent"),
        ("parts", 6, "nan", "exponent"),
        ("parts", 6, 0.5, "exponent"),
        ("parts", 6, 1e9, "exponent"),
    ],
    "minmax": [
        ("count", None, -1.0, "counts of extrema"),
        ("count", None, 2.5, "no whole number"),
        ("count", None, "nan", "extrem"),
        ("count", None, 0.0, "extrema of nothing"),
        ("min", None, 1e9, "the minimum exceeds the maximum"),
        ("max", None, -1e9, "the minimum exceeds the maximum"),
        ("min", None, "-inf", "not finite"),
        ("max", None, "inf", "not finite"),
        ("min", None, "nan", "not finite"),
    ],
    "robust": [
        ("values", 0, 1e9, "not in the order of ranks"),
        ("values", 2, -1e9, "not in the order of ranks"),
        ("values", 1, "nan", "not finite"),
        ("values", 2, "inf", "not finite"),
        ("q", None, -0.25, "must lie in [0, 1]"),
        ("q", None, "nan", "must lie in [0, 1]"),
        ("q", None, 0.3, "quantile_range"),
        ("count", None, -3.0, "counts of quantiles"),
        ("count", None, 0.0, "quantiles of nothing"),
        ("infinite", None, 1.0, "not finite"),
        ("infinite", None, -1.0, "infinite values"),
        ("infinite", None, 0.5, "infinite values"),
    ],
}
CASES = [(name, *case) for name, cases in IMPOSSIBLE.items() for case in cases]


@pytest.mark.parametrize(("name", "array", "row", "value", "reason"), CASES)
def test_what_no_data_has(name, array, row, value, reason, tmp_path):
    path = tmp_path / "scaler.json"
    SCALERS[name]().save(path)
    content = json.loads(path.read_text())
    found = content["statistic"][array]
    found["float64"][0 if row is None else row * found["shape"][1]] = value
    refused(path, content, "scaler.json is damaged", reason)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("scale_", {"shape": [3], "float64": [1.0, "inf", 1.0]}, "must be finite"),
        ("scale_", {"shape": [2], "float64": [1.0, 1.0]}, r"must have shape (3,)"),
        ("scale_", None, "scale_ is None"),
        ("mean_", "many", "must hold numbers"),
        ("__class__", 1.0, "no fitted attribute"),
        ("copy", 1.0, "no fitted attribute"),
        ("other_", 1.0, "no fitted attribute"),
    ],
)
def test_attributes_that_make_no_sense(name, value, reason, tmp_path):
    path = tmp_path / "scaler.json"
    SCALERS["assigned"]().save(path)
    content = json.loads(path.read_text())
    content["attributes"][name] = value
    refused(path, content, reason)


def test_what_earlier_versions_wrote_is_read(tmp_path):
    path = tmp_path / "scaler.json"
    for name in ("standard", "minmax", "robust", "maxabs"):
        SCALERS[name]().save(path)
        assert json.loads(path.read_text())["version"] == 1
    for name in ("assigned", "never fitted", "known"):
        SCALERS[name]().save(path)
        assert json.loads(path.read_text())["version"] == 2


@pytest.mark.parametrize("name", SCALERS)
def test_shown_by_the_command_line(name, tmp_path):
    testing = pytest.importorskip("click.testing")
    from normcore.cli.app import cli

    SCALERS[name]().save(tmp_path / "scaler.json")
    result = testing.CliRunner().invoke(cli, ["inspect", str(tmp_path / "scaler.json")])
    assert result.exit_code == 0, result.output
    assert ("unknown" in result.output) == (name in ("known", "never fitted"))
