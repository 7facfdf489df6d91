"""What a stranger looks for first, how to cite, report and contribute, is there and up to date."""

import re
import tomllib
from configparser import ConfigParser

import pytest
from paths import ROOT

import normcore as nc

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def tox_environments():
    tox = ConfigParser()
    tox.read(ROOT / "tox.ini")
    return {name.removeprefix("testenv:") for name in tox.sections() if name != "tox"}


def test_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {nc.__version__}\n" in citation
    assert f"\nlicense: {PROJECT['project']['license']}\n" in citation


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_are_read_and_run_environments_of_tox(path):
    yaml = pytest.importorskip("yaml")
    text = path.read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["jobs"]
    environments = set(re.findall(r"tox -e ([\w,]+)", text))
    environments |= set(re.findall(r"environment: \[([\w, ]+)\]", text))
    named = {name.strip() for each in environments for name in each.split(",")}
    known = tox_environments()
    for name in named:
        assert name in known or re.fullmatch(r"py3\d+t?", name), name


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
