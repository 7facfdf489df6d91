"""Every registered scaler, those of plugins too, on every kind of input."""

import numpy as np
import pytest

import normcore as nc

X = np.abs(np.random.default_rng(0).normal(5, 2, size=(50, 3))) + 0.25
NAMES = ["a", "b", "c"]
SCALERS = dict(nc.scalers())
each_scaler = pytest.mark.parametrize("cls", SCALERS.values(), ids=SCALERS)


def new(cls):
    """Return a scaler, with no more quantiles than there are rows."""
    return cls(n_quantiles=20) if "n_quantiles" in cls().get_params() else cls()


def of_torch(dtype):
    def make(x):
        torch = pytest.importorskip("torch")
        return torch.from_numpy(np.ascontiguousarray(x)).to(getattr(torch, dtype))

    return make


def of_strict(dtype):
    return lambda x: pytest.importorskip("array_api_strict").asarray(x.astype(dtype))


def of_read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return pytest.importorskip("array_api_strict").asarray(x)


def of_ml_dtypes(x):
    return x.astype(pytest.importorskip("ml_dtypes").bfloat16)


def named(x):
    return {name: x[:, j] for name, j in zip("abc"[: x.shape[1]], range(x.shape[1]), strict=True)}


KINDS = {
    "float64": (lambda x: x, "float64"),
    "float32": (lambda x: x.astype(np.float32), "float32"),
    "float16": (lambda x: x.astype(np.float16), "float16"),
    "other byte order": (lambda x: x.astype(">f4"), "float32"),
    "longdouble": (lambda x: x.astype(np.longdouble), "float64"),
    "int8": (lambda x: x.astype(np.int8), "float64"),
    "uint64": (lambda x: x.astype(np.uint64), "float64"),
    "bool": (lambda x: x > 5, "float64"),
    "list": (lambda x: x.tolist(), "float64"),
    "objects": (lambda x: x.astype(object), "float64"),
    "bfloat16": (of_ml_dtypes, "bfloat16"),
    "torch float64": (of_torch("float64"), "torch.float64"),
    "torch float16": (of_torch("float16"), "torch.float16"),
    "torch bfloat16": (of_torch("bfloat16"), "torch.bfloat16"),
    "torch int": (of_torch("int32"), "torch.float64"),
    "torch bool": (lambda x: of_torch("float64")(x) > 5, "torch.float64"),
    "strict float64": (of_strict(np.float64), "array_api_strict.float64"),
    "strict float32": (of_strict(np.float32), "array_api_strict.float32"),
    "strict read-only": (of_read_only, "array_api_strict.float64"),
    "strict int": (of_strict(np.int64), "array_api_strict.float64"),
    "pandas": (lambda x: pytest.importorskip("pandas").DataFrame(named(x)), "float64"),
    "polars": (lambda x: pytest.importorskip("polars").DataFrame(named(x)), "float64"),
    "lazy": (lambda x: pytest.importorskip("polars").DataFrame(named(x)).lazy(), None),
    "pyarrow": (lambda x: pytest.importorskip("pyarrow").table(named(x)), "float64"),
}
each_kind = pytest.mark.parametrize("kind", KINDS)
# Of rounding to the dtype of the result, of a value of size up to 100.
TOLERANCES = {"float32": 1e-5, "float16": 5e-2, "bfloat16": 0.5}


def numbers(array):
    """Return an array, a tensor or a lazy frame in float64."""
    if hasattr(array, "collect"):
        array = array.collect().to_numpy()
    if "torch" in type(array).__module__:
        return array.double().numpy()
    return np.asarray(array, dtype=np.float64)


@each_scaler
@each_kind
def test_fitted_mapped_and_inverted(cls, kind):
    make, dtype = KINDS[kind]
    given = make(X)
    scaler = new(cls).fit(given)
    scaled = scaler.transform(given)
    if dtype is not None:
        assert str(scaled.dtype) == dtype
    tolerance = TOLERANCES.get(str(dtype).rpartition(".")[2], 1e-9)
    is_frame = kind in ("pandas", "polars", "lazy", "pyarrow")
    plain = X if is_frame else numbers(given)
    expected = new(cls).fit(plain).transform(plain)
    np.testing.assert_allclose(numbers(scaled), expected, rtol=tolerance, atol=tolerance)
    if not hasattr(scaler, "inverse_transform"):
        return
    back = scaler.inverse_transform(scaled)
    whole = scaler.inverse_transform(numbers(scaled))
    np.testing.assert_allclose(numbers(back), whole, rtol=tolerance, atol=tolerance)
    if kind == "lazy":
        some = scaler.inverse_transform(scaled.select("c", "a"), columns=["c", "a"])
    else:
        part = numbers(scaled)[:, [2, 0]]
        some = scaler.inverse_transform(part, columns=[2, 0])
    np.testing.assert_allclose(numbers(some), whole[:, [2, 0]], rtol=1e-9)


@each_scaler
def test_frames_keep_what_they_are(cls):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(named(X), index=range(100, 150))
    frame["b"] = frame["b"].astype(np.float32)
    scaler = new(cls).set_output(transform="pandas").fit(frame)
    scaled = scaler.transform(frame)
    results = [scaled]
    if hasattr(scaler, "inverse_transform"):
        results.append(scaler.inverse_transform(scaled))
        np.testing.assert_allclose(results[1], frame, rtol=1e-4)
    for result in results:
        assert result.index.equals(frame.index)
        assert list(result.columns) == NAMES
        assert [str(each) for each in result.dtypes] == ["float64", "float32", "float64"]


@each_scaler
def test_transform_without_fit_where_there_is_nothing_to_learn(cls):
    if cls().__sklearn_tags__().requires_fit:
        with pytest.raises(ValueError, match="not fitted yet"):
            cls().transform(X)
        return
    expected = cls().fit(X).transform(X)
    for kind, (make, _) in KINDS.items():
        if kind in ("pandas", "polars", "lazy", "pyarrow", "strict float64", "torch float64"):
            np.testing.assert_allclose(numbers(cls().transform(make(X))), expected, rtol=1e-12)
