"""Python in processes of their own: installing, running, and what code gives there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap


def pip_install(target, *projects):
    """Install without an index; the compiler's output shows when it fails."""
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--no-index", "--no-deps", "--no-build-isolation", "--target", target, *projects],
        check=True,
        timeout=300,
    )  # fmt: skip
    return target


def run(*arguments, site=None, disabled="", check=True):
    """Run Python as this one runs, with another directory of installed distributions."""
    path = [] if site is None else [str(site)]
    path += [os.path.abspath(each) for each in sys.path]
    environment = dict(os.environ)
    environment.update(PYTHONPATH=os.pathsep.join(path), NORMCORE_DISABLED_PLUGINS=disabled)
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done


def evaluate(code, **options):
    """Return what the code, run in a process of its own, assigns to ``result``, and warnings."""
    lines = textwrap.indent(textwrap.dedent(code), "    ")
    script = (
        "import json, warnings\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        f"    import normcore as nc\n{lines}\n"
        "said = [f'{type(each.message).__name__}: {each.message}' for each in caught]\n"
        "print(json.dumps([result, said]))\n"
    )
    output = run("-c", script, **options).stdout
    return json.loads(output.splitlines()[-1])


def printed_json(code):
    """Return what the code prints, in a process of its own with this one's path, as JSON."""
    script = f"import sys; sys.path[:] = {sys.path!r}\nimport json\n{code}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
