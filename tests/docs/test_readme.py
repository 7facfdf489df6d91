"""The README is true: its commands, its code, and the plugin it shows."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tomllib
from types import ModuleType

import numpy as np
import pytest
from paths import ROOT
from processes import pip_install, run_python

README = (ROOT / "README.md").read_text(encoding="utf-8")
INSTALL_AND_RUN, INSTALL_AND_TEST = re.findall(r"^```sh\n(.*)\n```$", README, re.MULTILINE)


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def block(containing):
    (found,) = [each for each in blocks(r"\w+") if containing in each]
    return found


def test_two_commands_and_no_more():
    assert README.count("```sh\n") == 2
    assert INSTALL_AND_RUN.startswith('pip install ".[cli]" && normcore ')
    assert INSTALL_AND_TEST == "pip install tox && tox"


def test_ci_runs_the_test_command():
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines[-1] == INSTALL_AND_TEST


def test_console_shows_what_the_first_command_prints(tmp_path, monkeypatch):
    """Line by line, in this order; ``...`` stands for lines that are left out."""
    (console,) = blocks("console")
    first, *shown = console.splitlines()
    command = INSTALL_AND_RUN.partition(" && ")[2]
    assert first == f"$ {command}"
    program, *arguments = shlex.split(command)
    data = arguments[1]
    assert program == "normcore"
    (tmp_path / data).parent.mkdir(parents=True)
    (tmp_path / data).write_bytes((ROOT / data).read_bytes())
    monkeypatch.chdir(tmp_path)
    done = run_python("-m", "normcore", *arguments)
    printed = [line.rstrip() for line in done.stdout.splitlines()]
    position = 0
    for line in shown:
        if line != "...":
            assert line in printed[position:], done.stdout
            position = printed.index(line, position) + 1
    assert shown[-1] == printed[-1]
    assert len((tmp_path / arguments[-1]).read_text().splitlines()) == 570


def test_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples" / "data", tmp_path / "examples" / "data")
    plugin = ModuleType("normcore_halfrange")
    monkeypatch.setitem(sys.modules, plugin.__name__, plugin)
    import normcore as nc

    threads, names = nc.get_num_threads(), {}
    try:
        for number, code in enumerate(blocks("python")):
            exec(compile(code, f"README block {number}", "exec"), names)
            plugin.HalfRangeScaler = names.get("HalfRangeScaler")
    finally:
        nc.set_num_threads(threads)
    np.testing.assert_array_equal(names["restored"], names["X"])
    assert len((tmp_path / "scaled.csv").read_text().splitlines()) == 570
    assert names["Y"].dtype == np.float32
    assert names["dx"].shape == names["x"].shape
    scaled = names["HalfRangeScaler"]().fit_transform([[0.0], [1.0], [4.0]])
    np.testing.assert_array_equal(scaled, [[-1.0], [-0.5], [1.0]])


def test_plugin_in_full(tmp_path):
    """The three files, installed, are found and conform."""
    source = tmp_path / "source"
    package = source / "normcore_halfrange"
    package.mkdir(parents=True)
    (source / "pyproject.toml").write_text(block("[project.entry-points.normcore]"))
    (package / "plugin.py").write_text(block("@normcore.hookimpl"))
    (package / "__init__.py").write_text(block("class HalfRangeScaler"))
    site = pip_install(tmp_path / "site", source)
    assert re.search(
        r"halfrange +ready +normcore-halfrange 0.1 ",
        run_python("-m", "normcore", "scalers", site=site).stdout,
    )
    test = tmp_path / "test_halfrange.py"
    test.write_text(block("class TestHalfRangeScaler"))
    options = ("-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, "-c", "/dev/null")
    done = run_python("-m", "pytest", *options, test, site=site)
    assert re.search(r"\d\d passed", done.stdout)
    assert "failed" not in done.stdout


def test_extras_are_listed():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    paragraph = README.partition("## Extras")[2].partition("##")[0]
    for extra in declared["project"]["optional-dependencies"]:
        assert f"`{extra}`" in paragraph, extra


@pytest.mark.parametrize("target", re.findall(r"\]\(((?!http)[^)]+)\)", README))
def test_links_lead_somewhere(target):
    assert (ROOT / target).exists()
