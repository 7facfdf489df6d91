"""What a stranger looks for first, how to cite, report and contribute, is there and up to date."""

import re
import tomllib
from configparser import ConfigParser

import pytest
from paths import ROOT

import normcore as nc

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
#: Environments that a workflow cannot run: they take an hour of a quiet machine, a disk, a GPU.
BY_HAND = {"bench", "gpu", "large"}


def tox_environments():
    """Return the names of the environments, those that a section has for several included."""
    tox = ConfigParser()
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    sections = [each.removeprefix("testenv:") for each in tox if each.startswith("testenv:")]
    names = set()
    for section in sections:
        before, _, rest = section.partition("{")
        versions, _, after = rest.partition("}")
        names |= {f"{before}{version}{after}" for version in versions.split(",")}
    return {name for name in names if not name.startswith(".")}


def environments_of(path):
    """Return the names of the environments that a workflow runs, or that its matrices name."""
    yaml = pytest.importorskip("yaml")
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
    runs = [step.get("run", "") for job in jobs for step in job["steps"]]
    names = {
        name
        for run in runs
        for each in re.findall(r"tox -e ([\w,]+)", run)
        for name in each.split(",")
    }
    for matrix in (job.get("strategy", {}).get("matrix", {}) for job in jobs):
        names |= {*matrix.get("environment", [])}
        names |= {each["environment"] for each in matrix.get("include", [])}
    if "tox" in runs:
        tox = ConfigParser()
        tox.read(ROOT / "tox.ini", encoding="utf-8")
        names |= {each.strip() for each in tox["tox"]["env_list"].split(",")}
    return names


def test_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {nc.__version__}\n" in citation
    assert f"\nlicense: {PROJECT['project']['license']}\n" in citation


def test_workflows_run_every_environment_of_tox():
    assert len(WORKFLOWS) == 3
    run = set().union(*map(environments_of, WORKFLOWS))
    # py is whichever Python runs it, as py312 is.
    assert run | BY_HAND | {"py312"} == tox_environments()


def test_workflows_run_each_python_in_its_own_environment():
    yaml = pytest.importorskip("yaml")
    (path,) = (each for each in WORKFLOWS if each.name == "tests.yml")
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    for each in jobs["python"]["strategy"]["matrix"]["include"]:
        if re.fullmatch(r"py\d+t?", each["environment"]):
            assert each["environment"] == f"py{each['python'].replace('.', '')}"


def test_wheels_are_built_by_the_python_that_installs_them():
    """Where tox may run under another one, as in the workflows."""
    tox = ConfigParser()
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    named = [
        each.removeprefix("testenv:")
        for each in tox
        if each.startswith("testenv:") and not each.startswith("testenv:.")
        if "base_python" in tox[each]
    ]
    assert {"newest", "oldest"} <= set(named)
    for name in named:
        assert tox[f"testenv:{name}"]["wheel_build_env"] == ".pkg-{env_name}"
        builds = tox[f"testenv:.pkg-{name}"]["base_python"]
        assert builds == f"{{[testenv:{name}]base_python}}"


def test_every_form_for_issues_is_read():
    yaml = pytest.importorskip("yaml")
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) == 3
    for path in forms:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert path.stem == "config" or {"name", "description", "body"} <= form.keys()


def test_fragments_of_the_changelog_have_a_kind():
    kinds = {each["directory"] for each in PROJECT["tool"]["towncrier"]["type"]}
    start = PROJECT["tool"]["towncrier"]["start_string"]
    assert (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").count(start) == 1
    for path in (ROOT / "changelog.d").iterdir():
        if path.name != "README.md":
            found = re.fullmatch(r"(?:\+[\w-]+|\d+)\.(\w+)\.md", path.name)
            assert found, path.name
            assert found[1] in kinds, path.name
            assert path.read_text(encoding="utf-8").strip()


def test_what_is_named_in_the_hooks_is_there():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert "clang-format" in hooks
    assert (ROOT / ".clang-format").exists()
