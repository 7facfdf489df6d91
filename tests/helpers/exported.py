"""What scalers become by export, run: each function returns the array that the form computes."""

import ctypes
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest

import normcore as nc

__all__ = [
    "DATASETS", "FORMATS", "WARNINGS", "Halves", "compiled", "dataset", "queried", "run",
    "same_bits",
]  # fmt: skip

DATASETS = ("iris", "wine", "breast_cancer")
# A file that others compile gives none of these.
WARNINGS = ("-Wall", "-Wextra", "-Wmissing-prototypes", "-Werror")


class Halves(nc.AffineScaler):
    """An affine scaler as an outsider writes one, that uses all four coefficients."""

    statistic = nc.Moments

    def __init__(self, *, clip=False, copy=True, backend=None):
        self.clip, self.copy, self.backend = clip, copy, backend

    def affine(self, moments):
        return nc.Affine(center=moments.mean, scale=moments.std(), gamma=0.5, beta=0.1)

    def bounds(self):
        return (-0.3, 0.7) if self.clip else None


def dataset(name, dtype=np.float64):
    """Return a real table with NaN, and columns shifted by a million."""
    datasets = pytest.importorskip("sklearn.datasets")
    X = np.array(getattr(datasets, f"load_{name}")().data)
    X[:, ::2] += 1e6
    X[np.arange(X.shape[1]) + 3, np.arange(X.shape[1])] = np.nan
    return X.astype(dtype)


def same_bits(one, other):
    assert one.dtype == other.dtype
    assert one.shape == other.shape
    missing = np.isnan(one)
    np.testing.assert_array_equal(missing, np.isnan(other))
    words = f"u{one.itemsize}"
    np.testing.assert_array_equal(
        np.where(missing, 0, one.view(words)), np.where(missing, 0, other.view(words))
    )


def compiled(source, *flags):
    """Return the library of a C file."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    with tempfile.TemporaryDirectory() as folder:
        file, library = Path(folder, "scaler.c"), Path(folder, "scaler.so")
        file.write_text(source, encoding="ascii")
        command = [compiler, *flags, "-shared", "-fPIC", file, "-o", library]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return ctypes.CDLL(str(library))


def called(library, function, X):
    x = np.ascontiguousarray(X)
    y = np.empty_like(x)
    call = getattr(library, function)
    call.argtypes, call.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t), None
    call(x.ctypes.data, y.ctypes.data, len(x))
    return y


def queried(query, **tables):
    """Return the columns of a query of tables of arrow."""
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect(config={"threads": 1}) as connection:
        for name, table in tables.items():
            connection.register(name, table)
        return connection.sql(query).to_arrow_table()


def arrow(X, names):
    pa = pytest.importorskip("pyarrow")
    return pa.table([pa.array(column) for column in X.T], names=list(names))


def run_sql(scaler, X, inverse):
    names = [f"x{i}" for i in range(X.shape[1])]
    query = scaler.export("sql", table="t", columns=names, dtype=X.dtype.name, inverse=inverse)
    found = queried(query, t=arrow(X, names))
    return np.column_stack([each.to_numpy() for each in found.columns])


def run_c(scaler, X, inverse):
    library = compiled(scaler.export("c", inverse=inverse), "-std=c99", "-O1", *WARNINGS)
    function = "inverse" if inverse else "transform"
    suffix = "" if X.dtype == np.float64 else "_float"
    return called(library, f"scaler_{function}{suffix}", X)


def run_onnx(scaler, X, inverse):
    model = scaler.export("onnx", dtype=X.dtype.name, inverse=inverse)
    return run_model(model, X)


def run_model(model, X):
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"X": X})[0]


def run_torch(scaler, X, inverse):
    torch = pytest.importorskip("torch")
    module = scaler.export("torch")
    return (module.inverse if inverse else module)(torch.tensor(X)).numpy()


def run_polars(scaler, X, inverse):
    polars = pytest.importorskip("polars")
    names = [f"x{i}" for i in range(X.shape[1])]
    frame = polars.DataFrame(dict(zip(names, X.T, strict=True)))
    mapped = scaler.export("polars", columns=names, inverse=inverse)(frame.lazy())
    assert isinstance(mapped, polars.LazyFrame)
    return mapped.collect().to_numpy()


def run_sklearn(scaler, X, inverse):
    pytest.importorskip("sklearn")
    estimator = scaler.export("sklearn")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        return (estimator.inverse_transform if inverse else estimator.transform)(X)


#: Those of the same bits, by name; scikit-learn rounds in its own way.
FORMATS = {
    "sql": run_sql,
    "c": run_c,
    "onnx": run_onnx,
    "torch": run_torch,
    "polars": run_polars,
}


def run(format, scaler, X, inverse=False):
    return {**FORMATS, "sklearn": run_sklearn}[format](scaler, X, inverse)
