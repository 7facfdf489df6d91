"""examples/plugin: its tests pass where it is installed, and its scalers do all that is said."""

import shutil

import numpy as np
import pytest
import scipy.sparse as sp
from discovery import more_discovery
from libraries import library
from paths import ROOT
from processes import evaluate, pip_install, run_python

import normcore as nc

EXAMPLE = ROOT / "examples" / "plugin"
RNG = np.random.default_rng(0)
X = RNG.normal([1e6, 0.0, 5.0], [1.0, 1e-3, 100.0], size=(2_000, 3))
X[RNG.random(X.shape) < 0.02] = np.nan


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Site of the distribution normcore-example, built offline."""
    source = tmp_path_factory.mktemp("source") / "plugin"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("*.egg-info", "build"))
    return pip_install(tmp_path_factory.mktemp("example"), source)


@pytest.fixture
def plugin(monkeypatch):
    """The package, registered as a host registers it."""
    monkeypatch.syspath_prepend(EXAMPLE)
    more_discovery(monkeypatch)
    import normcore_example.plugin

    nc.register(normcore_example.plugin)
    return normcore_example


@pytest.mark.parametrize(
    ("module", "most"), [("root_mean_square", 15), ("signed_root", 15), ("geometric", 40)]
)
def test_they_are_as_short_as_is_said(module, most):
    path = EXAMPLE / "normcore_example" / f"{module}.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= most


def test_its_own_tests_pass_where_it_is_installed(installed, tmp_path):
    tests = shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")
    done = run_python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", tests,
        site=installed, cwd=tmp_path, timeout=900, PYTEST_ADDOPTS=None,
    )  # fmt: skip
    assert " passed" in done.stdout
    assert "failed" not in done.stdout


def test_its_scalers_are_found(installed):
    names, said = evaluate(
        """
        from normcore import RootMeanSquareScaler
        own = "normcore_example"
        result = sorted(k for k, each in nc.scalers().items() if each.__module__.startswith(own))
        """,
        site=installed,
    )
    assert (names, said) == (["geometric", "root-mean-square", "signed-root"], [])


def test_the_command_line_has_them(installed, tmp_path):
    pytest.importorskip("click")
    np.savetxt(
        tmp_path / "x.csv", np.nan_to_num(X[:20]), delimiter=",", header="a,b,c", comments=""
    )
    run_python(
        "-m", "normcore", "fit", "x.csv", "--scaler", "geometric", "--save", "s.json",
        site=installed, cwd=tmp_path,
    )  # fmt: skip
    told = run_python("-m", "normcore", "inspect", "s.json", site=installed, cwd=tmp_path).stdout
    assert "geometric" in told.lower()


# -- the affine scaler does all this, and has no line for any of it ------------------------------


@pytest.fixture
def scaler(plugin):
    return plugin.RootMeanSquareScaler().fit(X)


def test_the_map_is_the_one_that_it_says(scaler):
    expected = X / np.sqrt(np.nanmean(np.square(X.astype(np.longdouble)), axis=0))
    np.testing.assert_allclose(scaler.transform(X), expected.astype(float), rtol=4e-16)
    np.testing.assert_allclose(scaler.inverse_transform(scaler.transform(X)), X, rtol=4e-16)


def test_it_streams_and_merges(plugin, scaler):
    streamed, merged = plugin.RootMeanSquareScaler(), plugin.RootMeanSquareScaler()
    for piece in np.split(X, [1, 700, 1500]):
        streamed.partial_fit(piece)
        merged.merge(plugin.RootMeanSquareScaler().fit(piece))
    for other in (streamed, merged):
        np.testing.assert_allclose(other.scale_, scaler.scale_, rtol=4e-16)


def test_it_is_saved(scaler, tmp_path):
    scaler.save(tmp_path / "s.json")
    again = nc.load(tmp_path / "s.json")
    assert again.transform(X).tobytes() == scaler.transform(X).tobytes()
    assert again.partial_fit(X).n_samples_seen_ == 2 * len(X)


def test_files_are_fitted_in_batches(plugin, scaler, tmp_path):
    np.save(tmp_path / "x.npy", X)
    other = plugin.RootMeanSquareScaler()
    nc.fit_source(tmp_path / "x.npy", other, batch_rows=300)
    np.testing.assert_allclose(other.scale_, scaler.scale_, rtol=4e-16)


@pytest.mark.parametrize("kind", [sp.csr_array, sp.csc_array])
def test_it_takes_sparse_matrices(plugin, kind):
    dense = np.where(RNG.random((300, 4)) < 0.2, RNG.normal(size=(300, 4)), 0.0)
    scaler = plugin.RootMeanSquareScaler().fit(kind(dense))
    whole = plugin.RootMeanSquareScaler().fit(dense)
    np.testing.assert_allclose(scaler.scale_, whole.scale_, rtol=4e-16)
    np.testing.assert_allclose(scaler.transform(kind(dense)).toarray(), whole.transform(dense))


def test_it_takes_weights(plugin, scaler):
    twice = plugin.RootMeanSquareScaler().fit(X, sample_weight=np.full(len(X), 2.0))
    np.testing.assert_allclose(twice.scale_, scaler.scale_, rtol=4e-16)


@pytest.mark.parametrize("name", ["cpu", "reference", "strict", "torch", "torch on cpu", "cupy"])
def test_every_scaler_runs_on_every_backend(plugin, name, monkeypatch):
    rows = X[:300]
    scalers = [plugin.RootMeanSquareScaler, plugin.SignedRootScaler, plugin.GeometricScaler]
    if name == "cupy":
        scalers.pop()  # CuPy's logarithm is not among what stands in for it
    for each in scalers:
        expected = each().fit(rows)
        with library(name, monkeypatch) as known:
            scaler = each(backend=known.backend).fit(known.native(rows))
            result = scaler.transform(known.native(rows))
            assert isinstance(result, known.kind)
            np.testing.assert_allclose(
                known.host(result), expected.transform(rows), rtol=1e-14, err_msg=each.__name__
            )
            back = known.host(scaler.inverse_transform(result))
            np.testing.assert_allclose(back, rows, rtol=1e-14)


def test_it_is_exported_to_onnx(scaler):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    model = scaler.export("onnx")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (result,) = session.run(None, {session.get_inputs()[0].name: X})
    np.testing.assert_array_equal(result, scaler.transform(X))


def test_it_is_exported_to_sql(plugin):
    duckdb = pytest.importorskip("duckdb")
    pa = pytest.importorskip("pyarrow")
    names = ["a", 'b"; --', "select"]
    table = pa.table([pa.array(column) for column in X.T], names=names)
    scaler = plugin.RootMeanSquareScaler().fit(table)
    with duckdb.connect() as connection:
        connection.register("t", table)
        found = connection.sql(scaler.export("sql", table="t")).fetchnumpy()
    expected = scaler.transform(table)
    for index, name in enumerate(names):
        np.testing.assert_array_equal(np.ma.filled(found[name], np.nan), expected[:, index])


# -- the statistic -------------------------------------------------------------------------------


def test_the_geometric_mean_is_right_however_it_is_come_by(plugin, tmp_path):
    rows = np.abs(X) + 0.5
    rows[3] = 0.0
    exact = np.exp(
        np.nanmean(np.where(rows > 0, np.log(np.where(rows > 0, rows, 1)), np.nan), axis=0)
    )
    whole = plugin.GeometricScaler().fit(rows)
    streamed = plugin.GeometricScaler().fit(rows[:5]).partial_fit(rows[5:])
    whole.save(tmp_path / "s.json")
    resumed = nc.load(tmp_path / "s.json").partial_fit(rows)
    for scaler in (whole, streamed, resumed):
        np.testing.assert_allclose(scaler.geometric_mean_, exact, rtol=1e-13)
