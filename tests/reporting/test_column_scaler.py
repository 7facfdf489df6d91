"""The estimator that scales columns by scalers of their own."""

import json
import pickle

import numpy as np
import pytest

import normcore as nc

X = np.column_stack([np.arange(12.0), np.arange(12.0) ** 2, np.arange(12.0) % 3, np.ones(12)])


def two():
    return nc.ColumnScaler([("a", nc.StandardScaler(), [2]), ("b", nc.MinMaxScaler(), [0])])


# scikit-learn says so of everyone who does not import it.
NOT_ITS_CHILD = "ignore:Estimator .* does not inherit from:UserWarning"


@pytest.mark.filterwarnings(NOT_ITS_CHILD)
@pytest.mark.parametrize(
    "scaler",
    [
        nc.ColumnScaler(),
        nc.ColumnScaler([("one", nc.StandardScaler(), [0])]),
        nc.ColumnScaler([("all", nc.RobustScaler(), slice(None))]),
        nc.ColumnScaler([("sparse", nc.StandardScaler(with_mean=False), slice(None))]),
    ],
)
def test_scikit_learns_checks(scaler):
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    for result in checks.check_estimator(scaler, on_skip=None):
        assert result["status"] != "failed", result


def test_columns_keep_their_order():
    scaler = two().fit(X)
    result = scaler.transform(X)
    np.testing.assert_array_equal(result[:, 2:3], nc.StandardScaler().fit_transform(X[:, 2:3]))
    np.testing.assert_array_equal(result[:, :1], nc.MinMaxScaler().fit_transform(X[:, :1]))
    np.testing.assert_array_equal(result[:, [1, 3]], X[:, [1, 3]])
    np.testing.assert_allclose(scaler.inverse_transform(result), X, atol=1e-15)
    assert list(scaler.get_feature_names_out()) == ["x0", "x1", "x2", "x3"]
    assert type(scaler.named_transformers_["b"]) is nc.MinMaxScaler


def test_it_is_scikit_learns_column_transformer_in_the_order_of_the_table():
    compose = pytest.importorskip("sklearn.compose")
    theirs = compose.ColumnTransformer(two().transformers, remainder="passthrough")
    expected = theirs.fit_transform(X)  # in the order of the transformers
    np.testing.assert_array_equal(two().fit_transform(X)[:, [2, 0, 1, 3]], expected)


@pytest.mark.parametrize("passed", [[], [1, 3]])
@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", "float32", "bfloat16"])
@pytest.mark.parametrize("library", ["numpy", "torch", "array_api_strict"])
def test_arrays_come_out_as_of_their_scalers(library, dtype, passed):
    """Of the dtype that a scaler gives; columns that pass through are then of it, too."""
    module = pytest.importorskip(library)
    if library == "torch":
        table = module.from_numpy(X % 2).to(getattr(module, dtype))
    elif library == "numpy":
        if dtype == "bfloat16":
            dtype = pytest.importorskip("ml_dtypes").bfloat16
        table = (X % 2).astype(dtype)
    elif dtype == "bfloat16":
        pytest.skip("the standard has no bfloat16")
    else:
        table = module.asarray((X % 2).astype(dtype))
    scaled = [place for place in range(4) if place not in passed]
    scaler = nc.ColumnScaler([("standard", nc.StandardScaler(), scaled)])
    result = scaler.fit_transform(table)
    right = nc.StandardScaler().fit_transform(table)
    assert type(result) is type(right)
    assert result.dtype == right.dtype
    for place in range(4):
        expected = table if place in passed else right
        assert [float(v) for v in result[:, place]] == [float(v) for v in expected[:, place]]


def test_text_passes_through_frames():
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"t": ["x", "y", "z"], "v": [1.0, 2.0, 4.0]}, index=[5, 6, 7])
    scaler = nc.ColumnScaler([("range", nc.MinMaxScaler(), ["v"])]).fit(table)
    result = scaler.transform(table)
    expected = pd.DataFrame({"t": ["x", "y", "z"], "v": [0, 1 / 3, 1]}, index=[5, 6, 7])
    pd.testing.assert_frame_equal(result, expected)
    pd.testing.assert_frame_equal(scaler.inverse_transform(result), table)
    assert table["v"].tolist() == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_container_that_is_chosen(library):
    module = pytest.importorskip(library)
    kind = module.Table if library == "pyarrow" else module.DataFrame
    scaler = two().set_output(transform=library).fit(X)
    assert type(scaler.transform(X)) is kind
    frame = pytest.importorskip("pandas").DataFrame(X, columns=["p", "q", "r", "s"])
    result = scaler.fit(frame).transform(frame)
    assert type(result) is kind
    assert list(result.column_names if library == "pyarrow" else result.columns) == list("pqrs")


def test_sparse_columns_stay_sparse():
    sparse = pytest.importorskip("scipy.sparse")
    scaler = nc.ColumnScaler([("last", nc.MaxAbsScaler(), [1]), ("first", nc.MaxAbsScaler(), [0])])
    result = scaler.fit_transform(sparse.csr_array(X))
    assert sparse.issparse(result)
    np.testing.assert_array_equal(result.toarray(), scaler.fit_transform(X))


def test_parameters_of_the_scalers():
    scaler = two()
    assert scaler.get_params()["b__feature_range"] == (0, 1)
    scaler.set_params(b__feature_range=(-1, 1))
    assert scaler.fit_transform(X)[0, 0] == -1
    scaler.set_params(b=nc.RobustScaler(), b__unit_variance=True)
    assert scaler.get_params()["b__unit_variance"] is True
    with pytest.raises(ValueError, match="'b__wrong'"):
        scaler.set_params(a=nc.RobustScaler(), b__wrong=1)
    assert type(scaler.get_params()["a"]) is nc.StandardScaler


def test_scalers_that_were_given_are_not_fitted():
    scaler = two().fit(X)
    assert not hasattr(scaler.transformers[0][1], "mean_")
    again = pickle.loads(pickle.dumps(scaler))
    np.testing.assert_array_equal(again.transform(X), scaler.transform(X))


def named(values):
    return pytest.importorskip("pandas").DataFrame(values, columns=["p", "q", "r", "s"])


@pytest.mark.parametrize("table", [np.asarray, named], ids=["array", "frame"])
def test_a_file_holds_all_of_it(table, tmp_path):
    scaler = two().set_params(a=nc.RobustScaler(quantile_range=(10, 80))).fit(table(X))
    scaler.save(path := tmp_path / "s.json")
    again = nc.load(path)
    assert type(again) is nc.ColumnScaler
    for each in ("transform", "inverse_transform"):
        found, expected = getattr(again, each)(table(X)), getattr(scaler, each)(table(X))
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
    assert again.get_feature_names_out().tolist() == scaler.get_feature_names_out().tolist()
    assert again.get_params()["a__quantile_range"] == (10, 80)
    refitted = again.fit(table(X * 2)).transform(table(X))
    np.testing.assert_array_equal(refitted, scaler.fit(table(X * 2)).transform(table(X)))
    with pytest.raises(ValueError, match="not fitted"):
        two().save(tmp_path / "none.json")
    assert not (tmp_path / "none.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_features_in": 0}, "positive integer"),
        ({"feature_names_in": ["a"]}, "1 names are saved for 4 features"),
        ({"transformers": [1]}, "list of objects"),
        ({"columns": [4]}, "not places below 4"),
        ({"columns": [1, 1]}, "taken twice"),
        ({"columns": [0]}, "taken twice"),
        ({"columns": [1, 3]}, "'a' has 2 columns and a scaler of 1"),
        ({"scaler": "columns"}, "no scaler .*columns"),
        ({"name": "a__b"}, "cannot be the name"),
    ],
)
def test_a_damaged_file_is_refused(change, message, tmp_path):
    two().fit(X).save(path := tmp_path / "s.json")
    saved = json.loads(path.read_text())
    whole = change.keys() & {"n_features_in", "feature_names_in", "transformers"}
    (saved if whole else saved["transformers"][0]).update(change)
    path.write_text(json.dumps(saved))
    with pytest.raises(ValueError, match=f"s.json is damaged: .*{message}"):
        nc.load(path)


def test_parts_of_the_data():
    whole = two().fit(X)
    scaler = two().partial_fit(X[:5])
    first = pickle.loads(pickle.dumps(scaler))
    scaler.partial_fit(X[5:])
    first.merge(two().fit(X[5:]))
    for each in (scaler, first):
        np.testing.assert_allclose(each.transform(X), whole.transform(X), rtol=1e-15, atol=1e-15)
        assert each.named_transformers_["b"].n_samples_seen_ == 12
    before = scaler.transform(X)
    bad = np.where(X == 4, np.inf, X)
    for wrong, message in [(bad, "infinity"), (X[:, :3], "3 features, but ColumnScaler is")]:
        with pytest.raises(ValueError, match=message):
            scaler.partial_fit(wrong)
    for other, message in [
        (nc.ColumnScaler([("a", nc.StandardScaler(), [1])]).fit(X), "other names or columns"),
        (two().set_params(b__clip=True).fit(X), "other parameters"),
        (two(), "not fitted"),
    ]:
        with pytest.raises(ValueError, match=message):
            scaler.merge(other)
    with pytest.raises(TypeError, match="cannot merge ColumnScaler with StandardScaler"):
        scaler.merge(nc.StandardScaler().fit(X))
    np.testing.assert_array_equal(scaler.transform(X), before)
    exact = two().set_params(a=nc.RobustScaler())
    with pytest.raises(AttributeError, match="'a', a RobustScaler, has no partial_fit"):
        exact.partial_fit(X)
    with pytest.raises(ValueError, match="keeps no sketch"):
        exact.fit(X).merge(two().set_params(a=nc.RobustScaler()).fit(X))


def test_a_fit_that_fails_changes_nothing():
    scaler = two().fit(X)
    before = scaler.transform(X)
    with pytest.raises(ValueError, match="infinity"):
        scaler.fit(np.where(X == 4, np.inf, X))
    np.testing.assert_array_equal(scaler.transform(X), before)


@pytest.mark.parametrize(
    ("transformers", "message"),
    [
        (1, "sequence of \\(name, scaler, columns\\)"),
        ([("a", nc.StandardScaler)], "sequence of \\(name, scaler, columns\\)"),
        ([("a", nc.StandardScaler, [0])], "sequence of \\(name, scaler, columns\\)"),
        ([("a__b", nc.StandardScaler(), [0])], "'a__b' cannot be the name"),
        ([("a", nc.StandardScaler(), [0]), ("a", nc.StandardScaler(), [1])], "two .* 'a'"),
        ([("a", nc.StandardScaler(), [0]), ("b", nc.StandardScaler(), [0])], "'x0' is taken by"),
        ([("a", nc.StandardScaler(), [9])], "column 9 is not among the 4"),
        ([("a", nc.StandardScaler(), ["x9"])], "unknown columns"),
    ],
)
def test_wrong_transformers(transformers, message):
    with pytest.raises(ValueError, match=message):
        nc.ColumnScaler(transformers).fit(X)


def test_wrong_data():
    scaler = two()
    with pytest.raises(ValueError, match="not fitted"):
        scaler.transform(X)
    scaler.fit(X)
    with pytest.raises(ValueError, match="3 features, but ColumnScaler is expecting 4"):
        scaler.transform(X[:, :3])
    frame = pytest.importorskip("pandas").DataFrame(X, columns=["p", "q", "r", "s"])
    scaler.fit(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        scaler.transform(frame[["q", "p", "r", "s"]])


@pytest.mark.parametrize("library", ["numpy", "pandas"])
def test_errors_number_columns_as_the_table_does(library):
    values = np.random.default_rng(0).normal(size=(20, 4))

    def table(X):
        if library == "numpy":
            return X
        return pytest.importorskip("pandas").DataFrame(X, columns=["column 0", "b", "c", "d"])

    scaler = nc.ColumnScaler(
        [("one", nc.StandardScaler(), [3, 0]), ("two", nc.RobustScaler(), [1])]
    )
    scaler.fit(table(values))
    for column, name in ((0, "column 0"), (1, "b"), (3, "d")):
        bad = values.copy()
        bad[7, column] = np.inf
        label = f"column {column}" if library == "numpy" else f"column {name!r} (index {column})"
        for call in (scaler.transform, scaler.fit):
            with pytest.raises(ValueError, match="infinity") as raised:
                call(table(bad))
            assert f"{label}, first at row 7" in str(raised.value)


# -- weights ----------------------------------------------------------------------------


def weighable():
    return nc.ColumnScaler([("a", nc.StandardScaler(), [2, 3]), ("b", nc.RobustScaler(), [0])])


WEIGHTS = np.arange(12.0) % 5


def test_weights_are_given_to_each_scaler():
    for given in (WEIGHTS, WEIGHTS.tolist(), WEIGHTS + 0.3, 2.0):
        scaler = weighable().fit(X, sample_weight=given)
        for name, columns in (("a", [2, 3]), ("b", [0])):
            part = scaler.named_transformers_[name]
            alone = type(part)().fit(X[:, columns], sample_weight=given)
            assert str(part.to_dict()) == str(alone.to_dict())
    repeated = weighable().fit(np.repeat(X, WEIGHTS.astype(int), axis=0)).transform(X)
    found = weighable().fit(X, None, WEIGHTS).transform(X)
    np.testing.assert_allclose(found, repeated, rtol=1e-14, atol=1e-15)
    assert not np.allclose(found, weighable().fit_transform(X))
    np.testing.assert_array_equal(weighable().fit_transform(X, sample_weight=WEIGHTS), found)


@pytest.mark.parametrize("library", ["pandas", "polars", "lazy", "pyarrow", "sparse"])
def test_weights_of_other_tables(library):
    expected = weighable().fit(X, sample_weight=WEIGHTS)
    scaler = weighable()
    if library == "sparse":
        table = pytest.importorskip("scipy.sparse").csr_array(X)
        scaler.set_params(a__with_mean=False, b__with_centering=False)
        expected = pickle.loads(pickle.dumps(scaler)).fit(X, sample_weight=WEIGHTS)
    elif library == "pandas":
        table = named(X)
    else:
        module = pytest.importorskip(library.replace("lazy", "polars"))
        kind = module.Table.from_pydict if library == "pyarrow" else module.DataFrame
        table = kind(dict(zip("pqrs", X.T, strict=True)))
        table = table.lazy() if library == "lazy" else table
    scaler.fit(table, sample_weight=WEIGHTS)
    result = np.asarray(
        scaler.transform(
            X if library == "sparse" else table.collect() if library == "lazy" else table
        )
    )
    np.testing.assert_allclose(result, expected.transform(X), rtol=1e-15)


@pytest.mark.parametrize("library", ["array", "pandas", "polars", "lazy", "pyarrow", "sparse"])
def test_weights_that_no_scaler_looks_at(library):
    given = X
    if library == "sparse":
        given = pytest.importorskip("scipy.sparse").csr_array(X)
    elif library != "array":
        module = pytest.importorskip(library.replace("lazy", "polars"))
        kind = module.Table.from_pydict if library == "pyarrow" else module.DataFrame
        given = kind(dict(zip("pqrs", X.T, strict=True)))
        given = given.lazy() if library == "lazy" else given
    nc.ColumnScaler([]).fit(given, sample_weight=WEIGHTS)
    with pytest.raises(ValueError, match=f"sample_weight has 2 values, but X has {len(X)} rows"):
        nc.ColumnScaler([]).fit(given, sample_weight=[1, 2])
    with pytest.raises(ValueError, match="not negative"):
        nc.ColumnScaler([]).fit(given, sample_weight=-WEIGHTS)


def test_weights_over_dask():
    da = pytest.importorskip("dask.array")
    scaler = nc.ColumnScaler(
        [
            ("a", nc.StandardScaler(), [2, 3]),
            ("b", nc.RobustScaler(quantiles="sketch"), [0]),
        ]
    )
    expected = scaler.fit(X, sample_weight=WEIGHTS).transform(X)
    for weights in (WEIGHTS, da.from_array(WEIGHTS, chunks=4)):
        scaler.fit(da.from_array(X, chunks=(5, 2)), sample_weight=weights)
        np.testing.assert_allclose(scaler.transform(X), expected, rtol=1e-15, atol=1e-15)


def test_weights_of_parts_of_the_data():
    scaler = weighable().set_params(b__keep_sketch=True)
    whole = scaler.fit(X, sample_weight=WEIGHTS).transform(X)
    parts = weighable().set_params(b__keep_sketch=True)
    parts.partial_fit(X[:5], sample_weight=WEIGHTS[:5])
    parts.partial_fit(X[5:], None, WEIGHTS[5:])
    np.testing.assert_allclose(parts.transform(X), whole, rtol=1e-14, atol=1e-15)


def test_a_scaler_without_weights_is_named():
    scaler = two().fit(X)
    before = scaler.transform(X)
    for learn in (scaler.fit, scaler.partial_fit):
        with pytest.raises(TypeError, match="'b', a MinMaxScaler, takes no sample_weight"):
            learn(X, sample_weight=WEIGHTS)
    np.testing.assert_array_equal(scaler.transform(X), before)
    for wrong, message in [
        (WEIGHTS[1:], "11 values, but X has 12"),
        (-WEIGHTS, "egative"),
        (WEIGHTS * 0, "non-zero"),
        (WEIGHTS * np.nan, "NaN"),
    ]:
        with pytest.raises(ValueError, match=message):
            weighable().fit(X, sample_weight=wrong)


def test_weights_are_routed():
    sklearn = pytest.importorskip("sklearn")
    pipeline = pytest.importorskip("sklearn.pipeline")
    with sklearn.config_context(enable_metadata_routing=True):
        steps = pipeline.make_pipeline(weighable().set_fit_request(sample_weight=True))
        steps.fit(X, sample_weight=WEIGHTS)
        unasked = pipeline.make_pipeline(weighable())
        with pytest.raises(ValueError, match=r"\[sample_weight\] are passed but are not explicit"):
            unasked.fit(X, sample_weight=WEIGHTS)
    expected = weighable().fit(X, sample_weight=WEIGHTS).transform(X)
    np.testing.assert_array_equal(steps.transform(X), expected)
