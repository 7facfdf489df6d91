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


def test_contributors_are_told_of_every_environment():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    page = re.search(r"^## Test\n(.*?)^Other environments: (.*?);", page, re.M | re.S)
    before = re.sub(r"^```.*?^```$", "", page[1], flags=re.M | re.S)
    named = {*re.findall(r"`(\w+)`", before)}
    named |= {
        each for names in re.findall(r"`tox -e ([\w,]+)`", before) for each in names.split(",")
    }
    first, last = map(int, re.search(r"`py3(\d+)` to `py3(\d+)`", before).groups())
    named |= {f"py3{minor}" for minor in range(first, last + 1)}
    others = re.findall(r"`(\w+)`", page[2])
    assert others == sorted({*others} - named)
    assert named | {*others} == tox_environments()


def test_only_tags_are_published():
    yaml = pytest.importorskip("yaml")
    (path,) = (each for each in WORKFLOWS if each.name == "wheels.yml")
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    publish = workflow["jobs"].pop("publish")
    assert {*publish["needs"]} == workflow["jobs"].keys()
    assert "startsWith(github.ref, 'refs/tags/v')" in publish["if"]
    assert publish["permissions"] == {"id-token": "write"}
    assert not any("permissions" in job for job in workflow["jobs"].values())
    assert workflow["permissions"] == {"contents": "read"}


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
    tox = ConfigParser()
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    pinned = [each for name in ("lint", "type") for each in tox[f"testenv:{name}"]["deps"].split()]
    assert sorted(re.findall(r"\S+==[\d.]+", hooks)) == sorted(pinned)
    for each in pinned:  # import-linter is called by another name
        name = each.partition("==")[0].replace("import-linter", "lint-imports")
        assert f"- id: {name}" in hooks
