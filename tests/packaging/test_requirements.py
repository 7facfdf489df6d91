"""What is not there is named in one line, with what to install."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

import pytest
from processes import run_python

import normcore

THIS = sysconfig.get_config_var("EXT_SUFFIX").split(".")[1]


def refusal(code, site=None):
    """Return the one line that is said when code fails to import, and that nothing else is."""
    done = run_python(
        "-c",
        f"try:\n    {code}\nexcept ImportError as error:\n    print(error)",
        site=site,
    )
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    return line


def test_a_python_that_is_too_old():
    line = refusal("import sys; sys.version_info = (3, 10, 13, 'final', 0); import normcore")
    assert line == (
        f"normcore needs Python 3.11 or newer, and this is 3.10.13 ({sys.executable}): install a "
        "newer Python, and normcore-arrays with it"
    )


@pytest.mark.parametrize(
    "use",
    ["import normcore; normcore.StandardScaler", "from normcore import functional"],
)
@pytest.mark.parametrize(
    ("title", "least", "old"), [("NumPy", "2", "1.26.4"), ("pluggy", "1.5", "1.4.0")]
)
def test_a_library_that_is_too_old(title, least, old, use, tmp_path):
    name = title.lower()
    (tmp_path / f"{name}.py").write_text(f"__version__ = {old!r}\n")
    assert refusal(use, site=tmp_path) == (
        f"normcore needs {title} {least} or newer, and this is {old}: run `{sys.executable} -m pip "
        f"install '{name}>={least}'`"
    )


@pytest.mark.parametrize("version", ["1.5.0", "1.10.0.dev3+g1234567", "2.0", "unknown"])
def test_a_pluggy_that_is_new_enough(version, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(f"import pluggy; pluggy.__version__ = {version!r}\n")
    assert refusal("import normcore; print(normcore.StandardScaler())", site=tmp_path) == (
        "StandardScaler()"
    )


@pytest.mark.parametrize("module", ["functional", "io", "saving", "scaling", "statistics"])
def test_modules_of_the_package_ask_too(module, tmp_path):
    """By a NumPy that has all that is asked of it on import, but is too old."""
    (tmp_path / "sitecustomize.py").write_text("import numpy; numpy.__version__ = '1.26.4'\n")
    line = refusal(f"import normcore.{module}; normcore.functional", site=tmp_path)
    assert line.startswith("normcore needs NumPy 2 or newer, and this is 1.26.4: ")


def test_the_command_line_says_it_in_one_line(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import numpy; numpy.__version__ = '1.26.4'\n")
    done = run_python("-m", "normcore", "scalers", site=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("normcore: error: normcore needs NumPy 2 or newer, and this is 1.26.4: ")


def test_no_numpy():
    line = refusal("import sys; sys.modules['numpy'] = None; from normcore import BatchNorm")
    assert line == (
        f"normcore needs NumPy 2 or newer, and there is none: run `{sys.executable} -m pip "
        "install 'numpy>=2'`"
    )


def test_a_numpy_that_fails_says_so_itself(tmp_path):
    (tmp_path / "numpy.py").write_text("import a_library_of_its_own\n")
    line = refusal("from normcore import BatchNorm", site=tmp_path)
    assert line == "No module named 'a_library_of_its_own'"


@pytest.mark.parametrize("other", ["cpython-310-x86_64-linux-gnu", "cp313-win_amd64", None])
def test_modules_of_another_python_or_platform(other, tmp_path):
    """As where one environment was copied into another: pip itself refuses such wheels."""
    package = Path(normcore.__file__).parent
    shutil.copytree(
        package, tmp_path / "normcore", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pyc*")
    )
    if other:
        (tmp_path / "normcore" / "statistics" / f"moments.{other}.so").touch()
    assert refusal("import normcore", site=tmp_path) == (
        f"normcore in {tmp_path / 'normcore'} is compiled for {other or 'no Python at all'}, and "
        f"this Python is {THIS}: run `{sys.executable} -m pip install --force-reinstall "
        "normcore-arrays`"
    )
