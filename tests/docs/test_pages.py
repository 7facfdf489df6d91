"""The pages for readers are true in what can be checked at no cost: links, files, commands."""

import ast
import re
import shlex
import tomllib
from configparser import ConfigParser

import pytest
from paths import ROOT

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "examples/data/README.md"]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
COMMANDS = "\n".join(re.findall(r"^```sh\n(.*?)^```$", CONTRIBUTING, re.M | re.S)).splitlines()
FOLDERS = ("normcore", "backends", "plugins", "tests", "benchmarks", "docs", "examples")

each_page = pytest.mark.parametrize(
    "page", PAGES, ids=[path.relative_to(ROOT).as_posix() for path in PAGES]
)


def anchors(text):
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@each_page
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+://", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


@each_page
def test_files_that_are_named_exist(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for name in re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]*)`", text):
        assert (ROOT / name).exists(), name


def test_pages_for_newcomers_are_found():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "](docs/architecture.md)" in readme
    assert "](CONTRIBUTING.md)" in readme
    assert "include CHANGELOG.md CONTRIBUTING.md" in (ROOT / "MANIFEST.in").read_text()


def test_commands_name_what_there_is():
    tox = ConfigParser()
    tox.read(ROOT / "tox.ini")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in COMMANDS:
        words = shlex.split(line)
        if words[:2] == ["tox", "-e"]:
            assert f"testenv:{words[2]}" in tox, line
            for path in words[4:]:  # folders of tests have the names of what they test
                assert (ROOT / path.replace("tests/", "normcore/")).is_dir(), line
        if "-e" in words and words[0] == "pip":
            named = words[-1].partition("[")[2].rstrip("]").split(",")
            assert set(named) <= extras["optional-dependencies"].keys(), line


def test_build_requirements_are_those_of_the_project():
    (line,) = [line for line in COMMANDS if line.startswith("pip install tox ")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert sorted(shlex.split(line)[3:]) == sorted(project["build-system"]["requires"])


def test_options_of_the_benchmarks_exist():
    source = (ROOT / "benchmarks" / "__main__.py").read_text(encoding="utf-8")
    strings = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
    lines = [line for line in COMMANDS if line.startswith("python -m benchmarks")]
    assert len(lines) == 3
    for line in lines:
        assert {word for word in shlex.split(line) if word.startswith("--")} <= strings


def test_what_is_named_among_the_tests_is_there():
    for name in ("result_hashes.json", "test_result_hashes.py", "normcore_outside"):
        assert f"`{name}`" in CONTRIBUTING
        assert list((ROOT / "tests").rglob(name))
