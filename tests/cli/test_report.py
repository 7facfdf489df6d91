"""The command ``normcore report``."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import bad, good, run

import normcore as nc

pytest.importorskip("jinja2")


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = zip(rng.normal(size=300), rng.lognormal(size=300), strict=True)
    lines = [f"{a!r};{b!r};t" for a, b in ((float(a), float(b)) for a, b in rows)]
    (tmp_path / "data.csv").write_text("\n".join(["a;b;c", *lines, "NA;1;t"]) + "\n")


def test_a_page_and_json(tmp_path):
    out = good("report", "data.csv", "-o", "r.html", "--json", "r.json", "--delimiter", ";")
    assert "a       standard  Roughly symmetric" in out
    assert "301 rows, 3 columns" in out
    assert out.endswith("written: r.html\nwritten: r.json\n")
    content = json.loads((tmp_path / "r.json").read_text())
    assert [each["name"] for each in content["columns"]] == ["a", "b", "c"]
    assert content["columns"][0]["nulls"] == 1
    assert (tmp_path / "r.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert sorted(os.listdir()) == ["data.csv", "r.html", "r.json"]


def test_its_commands_run_and_do_what_it_says(tmp_path):
    good("report", "data.csv", "--json", "r.json", "--delimiter", ";")
    commands = json.loads((tmp_path / "r.json").read_text())["commands"]
    assert len(commands) == 2
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "normcore"
        good(*words, "-q")
    lines = (tmp_path / "data-scaled.csv").read_text().splitlines()
    assert lines[0] == "a;b;c"
    a, b = np.genfromtxt(lines[1:], delimiter=";", usecols=(0, 1)).T
    for column in (a, b):
        assert np.nanmean(column) == pytest.approx(0, abs=1e-12)
        assert np.nanstd(column) == pytest.approx(1)


NAMES = ["a,b", "x\ny", " ", " a", "-x", "--columns", "*", "it's", 'a"b', "$HOME", "`id`", "née"]


@pytest.mark.parametrize("name", ["-data.parquet", "two words.csv", "data.csv.gz"])
def test_its_commands_bear_names_of_any_kind(name, tmp_path):
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({each: rng.normal(size=100) for each in NAMES})
    frame["id"] = np.arange(100)
    frame["é~"] = rng.lognormal(size=100)
    write = frame.to_parquet if name.endswith("parquet") else frame.to_csv
    write(name, index=False)
    good("report", "--json", "r.json", "--", name)
    for command in json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["commands"]:
        good(*shlex.split(command)[1:], "-q")
    made = name.replace(".", "-scaled.", 1)
    found = pd.read_parquet(made) if name.endswith("parquet") else pd.read_csv(made)
    pd.testing.assert_frame_equal(found, nc.recommend(frame).fit_transform(frame))


def test_its_commands_read_as_it_did(tmp_path):
    lines = [
        "of 2024",
        "1.000,5\t-9",
        "#2\t2",
        "2.000,5\t-9",
        *(f"{i},5\t{i * i}" for i in range(50)),
    ]
    Path("data.csv").write_text("\n".join(lines), encoding="utf-16")
    csv = ["--no-header", "--delimiter", "tab", "--decimal", ",", "--thousands", ".", "--quote"]
    csv += ["'", "--na", "-9,", "--encoding", "utf-16", "--skip-rows", "1", "--comment", "#"]
    good("report", "data.csv", "--json", "r.json", *csv)
    commands = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["commands"]
    assert len(commands) == 2
    for command in commands:
        good(*shlex.split(command)[1:], "-q")
    X = np.array([[1000.5, np.nan], [2000.5, np.nan], *([i + 0.5, i * i] for i in range(50))])
    text = Path("data-scaled.csv").read_text(encoding="utf-8").replace(",", ".")
    scaled = np.genfromtxt(text.splitlines(), delimiter="\t", skip_header=1)
    np.testing.assert_allclose(scaled, nc.recommend(X).fit_transform(X), rtol=1e-12)


def test_columns_are_chosen_and_quiet_is_quiet():
    words = ("--delimiter", ";", "--columns", "b", "-q", "--json", "r.json")
    assert good("report", "data.csv", *words) == ""
    with open("r.json") as file:
        assert [each["name"] for each in json.load(file)["columns"]] == ["b"]


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["data.csv"], 2, "say where the report goes"),
        (["data.csv", "-o", "-"], 2, "--output takes the name of a file"),
        (["data.csv", "-o", "data.csv"], 1, "is the input too"),
        (["data.csv", "-o", "r.html", "--json", "r.html"], 1, "another output"),
        (["data.csv", "-o", "missing/r.html"], 1, "no directory"),
        (["nothing.csv", "-o", "r.html"], 1, "No such file"),
        (["data.csv", "-o", "r.html", "--delimiter", ";", "--columns", "z"], 2, "no column 'z'"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(words, status, message):
    code, line = bad("report", *words)
    assert code == status
    assert message in line


def test_names_do_not_command_the_terminal(tmp_path):
    (tmp_path / "n.csv").write_text("a\x1b[31m,b\n1,2\n3,5\n")
    assert "\x1b" not in good("report", "n.csv", "--json", "r.json")


def test_without_the_template_library_it_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['jinja2'] = None\n"
        "from normcore.cli import main\n"
        "sys.argv[1:] = ['report', 'data.csv', '-o', 'r.html', '--delimiter', ';']\n"
        "main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert 'needs Jinja2: pip install "normcore-arrays[report]"' in result.stderr
    assert not (tmp_path / "r.html").exists()


def test_standard_input(tmp_path):
    text = (tmp_path / "data.csv").read_bytes()
    command = [sys.executable, "-m", "normcore", "report", "-", "--json", "r.json"]
    subprocess.run([*command, "--delimiter", ";", "-q"], input=text, check=True)
    assert json.loads((tmp_path / "r.json").read_text())["commands"] == []
    assert run("report", "--help").exit_code == 0
