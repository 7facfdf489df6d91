"""docs/support.md is what trying every combination gives now."""

import shutil
import subprocess
import sys

import pytest
from paths import ROOT

NEEDED = (
    "array_api_strict",
    "dask.array",
    "dask.dataframe",
    "duckdb",
    "h5py",
    "jax",
    "keras",
    "ml_dtypes",
    "onnxruntime",
    "pandas",
    "polars",
    "pyarrow",
    "scipy",
    "sklearn",
    "torch",
    "xarray",
    "zarr",
)


def test_the_page_is_what_there_is(tmp_path):
    for library in NEEDED:
        pytest.importorskip(library)
    if shutil.which("cc") is None:
        pytest.skip("exports to C are compiled")
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "support_matrix", "--print"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (ROOT / "docs" / "support.md").read_text(encoding="utf-8"), (
        "python docs/support_matrix writes the page anew"
    )
