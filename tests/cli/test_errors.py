"""Errors of the command line: one line each, and nothing is left behind."""

from pathlib import Path

import numpy as np
import pytest
from command_line import bad, good, run

pytestmark = pytest.mark.usefixtures("folder")

FIT = ("fit", "data.csv", "--scaler", "standard", "--save", "s.json")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("fit",), "Missing argument 'DATA'"),
        (("fit", "data.csv", "--save", "s"), "Missing option '--scaler'"),
        (("fit-transfrom",), "No such command"),
        ((*FIT, "--no-such-option"), "No such option"),
        ((*FIT, "--batch-rows", "0"), "--batch-rows"),
        ((*FIT[:3], "standrad", *FIT[4:]), "no scaler 'standrad'; did you mean 'standard'?"),
        ((*FIT[:3], "zzz", *FIT[4:]), "no scaler 'zzz'; known: maxabs, minmax, "),
        ((*FIT, "--param", "with_maen=1"), "no parameter 'with_maen'; did you mean 'with_mean'?"),
        ((*FIT, "--param", "with_mean"), "not of the form key=value"),
        ((*FIT, "--param", "with_mean=1", "--param", "with_mean=0"), "given twice"),
        ((*FIT, "--param", "backend=cpu"), "--backend NAME"),
        ((*FIT, "--param", "with_mean=maybe"), "with_mean must be true or false, not 'maybe'"),
        ((*FIT, "--columns", "x\ny"), "a name with a line break stands in quotes"),
        ((*FIT, "--backend", "cqu"), "no backend 'cqu'; did you mean 'cpu'?"),
        ((*FIT, "--columns", "X"), "data.csv has no column 'X'"),
        ((*FIT, "--columns", "nam"), "did you mean 'name'?"),
        ((*FIT, "--columns", "name"), "column 'name' holds text, not numbers"),
        ((*FIT, "--columns", "x,,y"), "one of them is empty"),
        ((*FIT, "--columns", ""), "one of them is empty"),
        ((*FIT, "--columns", "x,x"), "names 'x' twice"),
        ((*FIT, "--exclude", "x,,y"), "--exclude takes names separated by commas"),
        ((*FIT, "--memory-limit", "much"), "expected a number of bytes, as 512MB or 2GiB"),
        ((*FIT, "--memory-limit", "0"), "expected a number of bytes"),
        ((*FIT, "--memory-limit", "2XB"), "expected a number of bytes"),
        ((*FIT, "--delimiter", "::"), "expected one character or 'auto', not '::'"),
        ((*FIT, "--decimal", ""), "expected one character, not ''"),
        ((*FIT, "--encoding", "utf-99"), "there is no encoding 'utf-99'"),
        ((*FIT, "--encoding", "base64"), "there is no encoding 'base64'"),
        ((*FIT, "--skip-rows", "-1"), "--skip-rows"),
        ((*FIT[:-1], "-"), "--save takes the name of a file"),
        (("transform", "data.csv", "--load", "-", "-o", "x.csv"), "--load takes the name of"),
        (("fit", "data.csv", "more.csv", *FIT[2:]), "quote a pattern"),
        (("fit-transform", "data.csv", "--scaler", "minmax", "-o", "x", "--output-format", "cvs"),
         "there is no format 'cvs'; did you mean 'csv'?"),
        (("fit", "data.csv", "--scaler", "minmax", "--param", "feature_range=1,0", "--save", "s"),
         "feature"),
        (("fit", "data.csv", "--scaler", "robust", "--param", "quantile_range=-1,50",
          "--save", "s"), "quantile"),
    ],
)  # fmt: skip
def test_usage_errors(args, message):
    status, line = bad(*args)
    assert status == 2
    assert message in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "in.csv: No such file"),
        ("", "in.csv is empty"),
        ("a,b\n", "in.csv has columns but no rows"),
        ("a,b\n1,2\n3\n", "in.csv, line 3: 1 field where the header has 2"),
        ("a,b\n1,2\n-inf,2\n", "column 'a' holds -infinity, first in row 2 of the data"),
        ("a\nx\n", "in.csv has no numeric column"),
        (b"\xe9,b\n1,2\n", "in.csv, line 1: the text is not UTF-8"),
        (b"\x1f\x8b\x08\x00", "in.csv, line 1: the text is not UTF-8"),
    ],
)
def test_data_errors(content, message):
    if content is not None:
        Path("in.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    for command in (("fit", "in.csv", "--save", "s"), ("fit-transform", "in.csv", "-o", "o.csv")):
        status, line = bad(*command, "--scaler", "standard")
        assert status == 1
        assert message in line


@pytest.mark.parametrize(
    ("option", "value"),
    [("--delimiter", ";"), ("--na", "x"), ("--skip-rows", "1"), ("--no-header", None)],
)
def test_options_of_csv_for_another_format(option, value):
    np.save("x.npy", np.ones((2, 2)))
    words = [option] if value is None else [option, value]
    status, line = bad("fit", "x.npy", "--scaler", "standard", "--save", "s.json", *words)
    assert status == 2
    assert f"{option} is for CSV files alone, and x.npy is none" in line


def test_late_text():
    Path("in.csv").write_text("a,b\n" + "1,2\n" * 400_000 + "one,2\n")
    status, line = bad("fit", "in.csv", "--scaler", "standard", "--save", "s.json")
    assert status == 1
    assert "in.csv, line 400002: column 'a'" in line


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("missing/out.csv", "no directory"),
        ("data.csv", "data.csv is the input too"),
        ("./data.csv", "is the input too"),
        ("directory.csv", "is a directory"),
        ("out.xls", "must be one of .arrow, .arrows, .csv, .csv.bz2, .csv.gz"),
        ("out", "must be one of"),
        ("out.npy", ".npy files hold numbers only"),
    ],
)
def test_outputs_are_checked_before_the_work(output, message, monkeypatch):
    from normcore.io.csv import source as csv

    Path("directory.csv").mkdir()
    good("fit", "data.csv", "--scaler", "standard", "--save", "s.json")
    monkeypatch.setattr(csv.Csv, "batches", lambda *args, **options: pytest.fail("it was read"))
    for command in (("fit-transform", "--scaler", "minmax"), ("transform", "--load", "s.json")):
        status, line = bad(*command, "data.csv", "-o", output)
        assert status == 1
        assert message in line


def test_where_to_save_is_checked_before_the_work(monkeypatch):
    from normcore.io.csv import source as csv

    monkeypatch.setattr(csv.Csv, "batches", lambda *args, **options: pytest.fail("it was read"))
    assert bad(*FIT[:-1], "no/s.json")[0] == 1
    assert "is the input too" in bad(*FIT[:-1], "data.csv")[1]
    command = ("fit-transform", "data.csv", "--scaler", "minmax", "-o", "o.csv", "--save")
    assert "is another output too" in bad(*command, "o.csv")[1]
    assert bad(*command, "no/s.json")[0] == 1


def test_the_saved_scaler_is_not_overwritten_by_the_output():
    good("fit", "data.csv", "--scaler", "standard", "--save", "s.csv")
    status, line = bad("transform", "data.csv", "--load", "s.csv", "-o", "s.csv")
    assert status == 1
    assert "s.csv is the input too" in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "s.json: No such file"),
        ("", "s.json is empty"),
        ("hello", "s.json is not a saved scaler of normcore"),
        ('{"format": "normcore", "vers', "s.json is truncated"),
        ('{"format": "normcore", "version": 7}', "s.json is of version 7"),
        (
            '{"format": "normcore", "version": 1, "scaler": "minmax", "n": '
            + '{"shape": [1], "float64": [1%s]}}' % ("0" * 400),
            "s.json is damaged: int too large",
        ),
    ],
)
def test_saved_files_that_cannot_be_used(content, message):
    if content is not None:
        Path("s.json").write_text(content)
    for command in (("inspect", "s.json"), ("transform", "data.csv", "--load", "s.json", "-o",
                                            "o.csv")):  # fmt: skip
        status, line = bad(*command)
        assert status == 1
        assert message in line


def test_a_column_that_the_scaler_needs_is_missing():
    good(*FIT)
    Path("other.csv").write_text("id,x,z\n1,2,3\n")
    status, line = bad("transform", "other.csv", "--load", "s.json", "-o", "o.csv")
    assert status == 1
    assert "other.csv has no column 'y'" in line


def test_a_scaler_that_is_not_installed():
    good(*FIT)
    Path("s.json").write_text(Path("s.json").read_text().replace('"standard"', '"special"'))
    status, line = bad("inspect", "s.json")
    assert status == 1
    assert "no scaler 'special'" in line
    assert "install the plugin" in line


def test_a_library_that_is_missing(monkeypatch):
    import sys

    formats = ("normcore.io.csv", "normcore.io.arrow", "normcore.io.libraries")
    for name in [name for name in sys.modules if name.startswith(formats)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    status, line = bad(*FIT)
    assert status == 1
    assert line.endswith('needs pyarrow: pip install "normcore-arrays[cli]"')
    np.save("x.npy", np.arange(6).reshape(3, 2))
    good("fit-transform", "x.npy", "--scaler", "minmax", "-o", "y.npy")
    assert np.load("y.npy").tolist() == [[0, 0], [0.5, 0.5], [1, 1]]


def test_warnings_are_one_line(monkeypatch):
    import warnings

    from normcore.cli import app

    def load(path):
        warnings.warn("something odd", UserWarning, stacklevel=2)
        raise ValueError("then this\nin two lines")

    monkeypatch.setattr(app, "load_scaler", load)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        result = run("inspect", "s.json")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "normcore: warning: something odd",
        "normcore: error: s.json: then this in two lines",
    ]
