"""Each library that is optional: where it is missing, one line says what to install."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from processes import run_python

SCALER = "nc.StandardScaler().fit([[0.0], [2.0]])"
LAYER = "nc.BatchNorm(2)"
FIT = "nc.fit_source({!r}, nc.StandardScaler())"
CLI = "from normcore.cli import main; sys.argv[1:] = {!r}; main()"
WITH_DASK = ["fit", "x.csv", "--scaler", "standard", "--save", "s.json", "--engine", "dask"]

#: The library that is missing, what needs it, and how the line ends that says so.
MISSING = [
    ("pluggy", "nc.StandardScaler()", "'pluggy>=1.5'`"),
    ("pluggy", "nc.MaxAbsScaler()", "'pluggy>=1.5'`"),
    ("sklearn", f"{SCALER}.export('sklearn')", "'normcore-arrays[sklearn]'"),
    ("dask", CLI.format(WITH_DASK), "'normcore-arrays[dask]'"),
    ("distributed", CLI.format(WITH_DASK), "'normcore-arrays[dask]'"),
    ("onnx", f"{SCALER}.export('onnx')", "'normcore-arrays[onnx]'"),
    ("onnx", f"{LAYER}.export('onnx')", "'normcore-arrays[onnx]'"),
    ("h5py", FIT.format("x.h5"), "pip install h5py"),
    ("zarr", FIT.format("x.zarr"), 'pip install "zarr>=3"'),
    *(
        ("pyarrow", FIT.format(name), '"normcore-arrays[cli]"')
        for name in ("x.csv", "x.csv.gz", "x.parquet", "x.orc", "x.arrows", ".")
    ),
    ("pyarrow", "nc.report('x.csv')", '"normcore-arrays[cli]"'),
    ("mpi4py", "from normcore import mpi; mpi.MPICommunicator()", "'normcore-arrays[mpi]'"),
    ("torch", "import normcore.torch", "'normcore-arrays[torch]'"),
    ("torch", f"{SCALER}.export('torch')", "'normcore-arrays[torch]'"),
    ("torch", f"{LAYER}.to_torch(1)", "'normcore-arrays[torch]'"),
    ("jax", "import normcore.jax", "'normcore-arrays[jax]'"),
    ("keras", "import normcore.keras", "'normcore-arrays[keras]'"),
    *(
        (backend, f"import os; os.environ['KERAS_BACKEND'] = {backend!r}; import normcore.keras",
         "KERAS_BACKEND=torch, or jax, before Keras is imported chooses another: pip install "
         "'normcore-arrays[torch]'")
        for backend in ("tensorflow", "torch", "jax")
    ),
    ("pytest", "import normcore.testing", "'normcore-arrays[testing]'"),
    ("hypothesis", "import normcore.testing", "'normcore-arrays[testing]'"),
    ("polars", f"{SCALER}.export('polars')", "pip install polars"),
    *(
        (library, f"{SCALER}.set_output(transform={library!r}).transform([[0.0]])",
         f"pip install {library}")
        for library in ("pandas", "polars", "pyarrow")
    ),
    ("cupy", "nc.get_backend('cupy')",
     "pip install 'normcore-arrays[cuda13]', or [cuda12] for drivers of CUDA 12"),
    ("click", CLI.format(["scalers"]), '"normcore-arrays[cli]"'),
    ("rich", CLI.format(["scalers"]), '"normcore-arrays[cli]"'),
]  # fmt: skip
#: What is imported before the library that is missing.
NEEDS = {
    "dask": ("click", "rich"),
    "distributed": ("click", "rich", "dask"),
    **dict.fromkeys(("tensorflow", "torch", "jax"), ("keras",)),
}


@pytest.mark.parametrize(("library", "code", "end"), MISSING, ids=lambda each: each[:40])
def test_the_line_says_what_to_install(library, code, end, tmp_path):
    for other in NEEDS.get(library, ()):
        if find_spec(other) is None:  # Keras itself is imported only where its backend is found
            pytest.skip(f"{other} is missing")
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    for name in ("x.h5", "x.csv.gz", "x.parquet", "x.orc", "x.arrows"):
        (tmp_path / name).write_bytes(b"never read")
    (tmp_path / "x.zarr").mkdir()
    lines = f"import sys; sys.modules[{library!r}] = None\nimport normcore as nc\n{code}"
    done = run_python("-P", "-c", lines, cwd=tmp_path, check=False)
    assert done.returncode != 0
    *_, last = done.stderr.splitlines()
    assert last.endswith(end), done.stderr
    assert not (tmp_path / "s.json").exists()
