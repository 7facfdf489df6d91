"""``normcore export``: text to standard output, files, and what is refused."""

import pickle

import numpy as np
import pytest
from command_line import bad, good
from outside_formats import register_formats

import normcore as nc

FORMATS = ["c", "onnx", "polars", "sklearn", "sql", "torch"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nc.StandardScaler.from_statistics(
        mean=[2.0, 1.0], std=[4.0, 0.5], count=7, feature_names=["a", "b;"]
    ).save("s.json")


def test_text_goes_to_standard_output():
    text = nc.load("s.json").export("sql", table="t")
    assert good("export", "s.json", "--to", "sql", "--param", "table=t") == text
    assert good("export", "s.json", "--to", "sql", "--param", "table=t", "-o", "-") == text
    said = good("export", "s.json", "--to", "c", "-o", "s.c", "--param", "inverse=true")
    assert said == "written: s.c\n"
    with open("s.c", encoding="ascii") as file:
        assert file.read() == nc.load("s.json").export("c", inverse=True)
    columns = 'columns=["x", "y"]'
    assert '"y"' in good("export", "s.json", "--to", "sql", "--param", columns)


def test_files_of_libraries():
    onnx = pytest.importorskip("onnx")
    good("export", "s.json", "--to", "onnx", "-o", "s.onnx", "--param", "dtype=float32")
    onnx.checker.check_model("s.onnx")
    pytest.importorskip("sklearn")
    good("export", "s.json", "--to", "sklearn", "-o", "s.pkl")
    with open("s.pkl", "rb") as file:
        assert pickle.load(file).mean_.tolist() == [2.0, 1.0]


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--to", "slq"], 2, "there is no exporter 'slq'; did you mean 'sql'?"),
        (["--to", "excel"], 2, f"there is no exporter 'excel'; known: {', '.join(FORMATS)}"),
        (["--to", "sql", "--param", "tabel=t"], 2, "'tabel'; its options: table, columns"),
        (["--to", "sql", "--param", "table"], 2, "--param 'table' is not of the form key="),
        (["--to", "sql", "--param", "table=t", "--param", "table=u"], 2, "is given twice"),
        (["--to", "sql", "--param", "inverse=maybe"], 2, "inverse must be true or false, not 'm"),
        (["--to", "sql", "--param", "dialect=x"], 1, "s.json: dialect must be one of"),
        (["--to", "sql", "-o", "s.json"], 1, "s.json is the input too; choose another name"),
        (["--to", "sql", "-o", "no/s.sql"], 1, "there is no directory"),
        ([], 2, "Missing option '--to'"),
    ],
)
def test_what_is_refused(words, status, message):
    found, line = bad("export", "s.json", *words)
    assert message in line
    assert found == status


def test_what_is_no_text_needs_a_file():
    pytest.importorskip("onnx")
    status, line = bad("export", "s.json", "--to", "onnx")
    assert status == 2
    assert "'onnx' is no text: say where it goes, with --output FILE" in line
    pytest.importorskip("polars")
    status, line = bad("export", "s.json", "--to", "polars", "-o", "out")
    assert status == 1
    assert "s.json: 'polars' gives a PolarsMap, which is for Python and no file" in line


def test_a_file_that_is_no_scaler():
    with open("x.json", "w") as file:
        file.write("{}")
    status, line = bad("export", "x.json", "--to", "sql")
    assert status == 1
    assert "x.json" in line
    status, line = bad("export", "-", "--to", "sql")
    assert status == 2
    assert "FILE takes the name of a file" in line


def test_formats_are_listed():
    said = good("exporters")
    assert "normcore.export.sql:to_sql" in said
    assert [line.split()[0] for line in said.splitlines()[1:]] == FORMATS


def test_a_third_partys_format(monkeypatch):
    register_formats(monkeypatch)
    words = ("export", "s.json", "--to")
    assert good(*words, "words", "--param", "greeting=hi") == "hi 2.0"
    good(*words, "numbers", "-o", "n.bin")
    assert np.fromfile("n.bin").tolist() == [2.0, 1.0]
    status, line = bad(*words, "object", "-o", "o.bin")
    assert status == 1
    assert "'object' gives a object, which is for Python and no file" in line
    assert good(*words, "flagged", "--param", "up=no") == "down"
    assert good(*words, "flagged", "--param", "up=on") == "UP"


@pytest.mark.parametrize(
    ("format", "said"),
    [
        ("boom", "s.json: boom; plugin 'hosted', registered by the application: exporter "
         "'boom' raised it"),
        ("boom_file", "the writer of exporter 'boom_file' raised it"),
        ("unwritten", "the writer of exporter 'unwritten' must return bytes, not '<object"),
    ],
)  # fmt: skip
def test_a_format_that_fails_is_named(monkeypatch, format, said):
    register_formats(monkeypatch)
    status, line = bad("export", "s.json", "--to", format, "-o", "out")
    assert status == 1
    assert said in line
