"""Python in processes of their own: running, what code gives there, installing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any


def environment(*sites: str | Path, **variables: str | None) -> dict[str, str]:
    """Return this environment, in which Python finds what this one finds.

    Parameters
    ----------
    *sites
        Directories of installed distributions that come first.
    **variables
        Variables of other values; None leaves one out.
    """
    path = [*map(str, sites), *map(os.path.abspath, sys.path)]
    changed = {**os.environ, "PYTHONPATH": os.pathsep.join(path), **variables}
    return {name: value for name, value in changed.items() if value is not None}


def run_python(
    *arguments: object,
    site: str | Path | None = None,
    cwd: str | Path | None = None,
    check: bool = True,
    timeout: float = 300,
    **variables: str | None,
) -> subprocess.CompletedProcess[str]:
    """Run Python as this one runs; its exit status must be 0, unless it is not to be checked."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment(*[] if site is None else [site], **variables),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done


def printed(code: str, **variables: str | None) -> str:
    """Return what the code prints, which may use `json` and `sys`; warnings are errors."""
    script = f"import json, sys\n{code}"
    done = run_python("-P", "-W", "error", "-c", script, timeout=60, **variables)
    assert done.stderr == ""
    return done.stdout.strip()


def printed_json(code: str, **variables: str | None) -> Any:
    """Return what the code prints as JSON."""
    return json.loads(printed(code, **variables))


def evaluate(code: str, disabled: str = "", **options: Any) -> tuple[Any, list[str]]:
    """Return what the code assigns to ``result``, and warnings.

    Parameters
    ----------
    code : str
    disabled : str, optional
        Plugins that are not to be loaded.
    **options
        Options of `run_python`.
    """
    lines = textwrap.indent(textwrap.dedent(code), "    ")
    script = (
        "import json, warnings\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        f"    import normcore as nc\n{lines}\n"
        "said = [f'{type(each.message).__name__}: {each.message}' for each in caught]\n"
        "print(json.dumps([result, said]))\n"
    )
    done = run_python("-c", script, NORMCORE_DISABLED_PLUGINS=disabled, **options)
    result, said = json.loads(done.stdout.splitlines()[-1])
    return result, said


def pip_install(target: Path, *projects: str | Path) -> Path:
    """Install without an index; the compiler's output shows when it fails."""
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--no-index", "--no-deps", "--no-build-isolation", "--target", target, *projects],
        check=True,
        timeout=300,
    )  # fmt: skip
    return target
