"""Run the tests of normcore.keras on each backend of Keras, in a process of its own."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from paths import ROOT
from processes import printed, run_python

pytestmark = pytest.mark.skipif(find_spec("keras") is None, reason="needs Keras")

# Keras reads its variables as NumPy deprecates.
IGNORED = "ignore:__array__ implementation:DeprecationWarning"
FILES = [Path(__file__).with_name(f"{name}.py") for name in ("on_backend", "edges", "adapting")]


@pytest.mark.parametrize("backend", ["torch", "jax", "numpy"])
def test_on_backend(backend, tmp_path):
    if find_spec(backend) is None:
        pytest.skip(f"needs {backend}")
    run_python(
        "-m", "pytest", "-c", ROOT / "pyproject.toml", "--rootdir", ROOT, "-q", "-p",
        "no:cacheprovider", "-W", IGNORED, *FILES,
        cwd=tmp_path, timeout=900, KERAS_BACKEND=backend, JAX_ENABLE_X64="1", JAX_PLATFORMS="cpu",
    )  # fmt: skip


def test_without_keras_the_error_says_what_to_install():
    assert "pip install 'normcore-arrays[keras]'" in printed(
        "sys.modules['keras'] = None\n"
        "try:\n    import normcore.keras\n"
        "except ModuleNotFoundError as error: print(error)"
    )
