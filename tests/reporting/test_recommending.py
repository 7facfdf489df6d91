"""Flags of columns, and the scalers that are recommended for them."""

import numpy as np
import pytest

import normcore as nc

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")
N = 5000


@pytest.fixture(scope="module")
def columns():
    rng = np.random.default_rng(3)
    table = pd.DataFrame(
        {
            "normal": rng.normal(5, 2, N),
            "uniform": rng.uniform(-1, 1, N),
            "lognormal": rng.lognormal(0, 1, N),
            "mirrored": -rng.lognormal(0, 1, N),
            "stairs": np.where(rng.random(N) < 0.8, 0, rng.lognormal(size=N)),
            "tails": rng.standard_t(2, N),
            "contaminated": np.where(rng.random(N) < 0.01, 1e4, rng.normal(size=N)),
            "constant": 3.0,
            "nearly": np.where(rng.random(N) < 0.003, rng.normal(size=N), 1.0),
            "coin": rng.integers(0, 2, N),
            "truth": rng.random(N) < 0.3,
            "spike": np.where(rng.random(N) < 0.8, 0, rng.normal(size=N)),
            "far": 1e7 + rng.normal(size=N),
            "empty": np.nan,
            "hot": np.where(rng.random(N) < 0.01, np.inf, rng.normal(size=N)),
            "row": np.arange(N) * 3 + 5,
            "shuffled": rng.permutation(N),
            "snowflake": rng.integers(2**60, 2**61, N) | 1,
            "customer_id": rng.integers(0, 10**7, N),
            "created_at": 1_600_000_000 + rng.integers(0, 10**7, N),
            "ms": 1_600_000_000_000 + rng.integers(0, 10**10, N),
            "date": pd.date_range("2020-01-01", periods=N, freq="h"),
            "age": rng.integers(18, 80, N),
            "text": "x",
        }
    )
    return {column.name: column for column in nc.report(table).columns}


@pytest.mark.parametrize(
    ("name", "scaler", "flags"),
    [
        ("normal", "standard", set()),
        ("uniform", "standard", set()),
        ("age", "standard", set()),
        ("lognormal", "power", {"heavy_tail", "skewed"}),
        ("mirrored", "power", {"heavy_tail", "skewed"}),
        ("stairs", "quantile", {"zero_iqr", "skewed"}),
        ("tails", "robust", {"heavy_tail"}),
        ("contaminated", "robust", {"heavy_tail"}),
        ("constant", None, {"constant"}),
        ("nearly", "standard", {"near_constant", "skewed"}),
        ("coin", None, {"binary"}),
        ("truth", None, {"binary"}),
        ("spike", "standard", {"zero_iqr"}),
        ("far", "standard", {"cancellation"}),
        ("empty", None, {"empty"}),
        ("hot", "standard", {"infinity"}),
        ("row", None, {"identifier"}),
        ("shuffled", None, {"identifier"}),
        ("snowflake", None, {"identifier"}),
        ("customer_id", None, {"identifier"}),
        ("created_at", None, {"time_stamp"}),
        ("ms", None, {"time_stamp"}),
        ("date", None, {"time_stamp"}),
        ("text", None, {"text"}),
    ],
)
def test_columns(columns, name, scaler, flags):
    column = columns[name]
    assert column.recommendation.scaler == scaler
    assert column.flags.keys() == flags
    assert column.recommendation.reason.endswith(".")


def test_reasons_say_what_was_found(columns):
    reasons = {name: column.recommendation.reason for name, column in columns.items()}
    assert "Roughly symmetric" in reasons["normal"]
    assert "carry 99% of the variance" in reasons["contaminated"]
    assert "skewed to the left" in reasons["mirrored"]
    assert "2**53" in columns["snowflake"].flags["identifier"]


@pytest.mark.parametrize("names", [["c_red", "c_blue", "c_green"], ["r", "s", "t"]])
def test_one_hot_columns_pass_beside_a_range(names):
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, 3, N)
    table = pd.DataFrame({name: (chosen == i) * 1.0 for i, name in enumerate(names)})
    table["dense"] = rng.normal(size=N)
    table["skewed"] = rng.lognormal(size=N)
    found = {column.name: column for column in nc.report(table).columns}
    for name in names:
        assert found[name].flags.keys() == {"one_hot"}
        assert found[name].recommendation.scaler is None
    assert found["dense"].recommendation.scaler == "minmax"
    assert found["skewed"].recommendation.scaler == "power"


def test_ones_that_are_as_many_as_rows_are_not_yet_one_hot():
    # As many as the rows, but two in some and none in others.
    first, second = np.zeros((2, 100))
    first[:50] = second[:50] = 1
    table = pd.DataFrame({"c_a": first, "c_b": second, "dense": np.arange(100) % 17 * 0.1})
    found = {column.name: column for column in nc.report(table).columns}
    assert found["c_a"].flags.keys() == {"binary"}
    assert found["dense"].recommendation.scaler == "standard"


def test_without_the_plugins_skewed_columns_have_a_scaler_too(monkeypatch):
    monkeypatch.setattr("normcore.reporting.describing.is_registered", lambda name: False)
    x = np.random.default_rng(0).lognormal(0, 1, (N, 1))
    assert nc.report(x).columns[0].recommendation.scaler == "robust"


def test_numbers_of_one_row_are_constant():
    (column,) = nc.report([[3.5]]).columns
    assert column.flags.keys() == {"constant"}


def test_statistics_do_not_depend_on_wide_offsets():
    x = np.random.default_rng(0).normal(size=(N, 1))
    near, far = (nc.report(x + offset).columns[0] for offset in (0, 1e12))
    assert far.recommendation.scaler == near.recommendation.scaler == "standard"
    assert far.std == pytest.approx(near.std, rel=1e-3)


@pytest.mark.parametrize("n", [2, 3, 19])
def test_few_values_tell_little(n):
    x = np.arange(n, dtype=float)[:, None] ** 3 + np.array([[0.0, 0.5]])
    for column in nc.report(x[: n - 1 or 1]).columns:
        assert column.recommendation.scaler in ("standard", None)


def test_a_column_of_nulls_is_empty():
    import pyarrow as pa

    (column,) = nc.report(pa.table({"n": pa.nulls(5)})).columns
    assert column.flags.keys() == {"empty"}


@pytest.mark.parametrize("X", [5, None, pd.Series([1.0, 2.0])])
def test_what_has_no_columns_is_refused(X):
    with pytest.raises((TypeError, ValueError), match=r"2D array|no table"):
        nc.report(X)
