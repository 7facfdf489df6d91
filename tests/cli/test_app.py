"""The command line, run in this process."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

import normcore as nc

pytest.importorskip("pyarrow")
pytest.importorskip("rich")
testing = pytest.importorskip("click.testing")
cli = pytest.importorskip("normcore.cli.app").cli

EXAMPLE = Path(__file__).parents[2] / "examples" / "data" / "breast_cancer.csv"


@pytest.fixture(autouse=True)
def _directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data.csv").write_text("id,x,y,name\n1,1.5,10,a\n2,,30,b\n3,4.5,20,c\n")


def run(*args):
    result = testing.CliRunner().invoke(cli, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def good(*args):
    result = run(*args)
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def bad(*args):
    """Return the exit status and the one line on stderr; nothing may be left behind."""
    before = sorted(os.listdir())
    result = run(*args)
    assert sorted(os.listdir()) == before
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("normcore: error: ")
    return result.exit_code, line.removeprefix("normcore: error: ")


def rows_of(stdout):
    return {line.split()[0]: line.split()[1:] for line in stdout.splitlines() if line.strip()}


# -- the main job ------------------------------------------------------------------------------


def test_fit_transform_and_its_summary():
    stdout = good(
        "fit-transform", "data.csv", "--scaler", "standard", "-o", "out.csv", "--save", "s.json",
        "--columns", "x,y",
    )  # fmt: skip
    assert Path("out.csv").read_text() == (
        "id,x,y,name\n1,-1,-1.224744871391589,a\n2,,1.224744871391589,b\n3,1,0,c\n"
    )
    rows = rows_of(stdout)
    # count, NaN, center, scale; before: min, mean, max; after: min, mean, max
    assert rows["x"] == ["2", "1", "3", "1.5", "1.5", "3", "4.5", "-1", "0", "1"]
    assert rows["y"] == ["3", "0", "20", "8.165", "10", "20", "30", "-1.2247", "0", "1.2247"]
    assert "3 rows, 2 columns normalized with StandardScaler" in stdout
    assert "passed through as they are: id, name" in stdout
    assert stdout.count("name") == 1
    assert "written: out.csv" in stdout
    assert "saved: s.json" in stdout


def test_columns_come_by_default_from_what_is_numeric():
    stdout = good("fit-transform", "data.csv", "--scaler", "minmax", "-o", "out.csv")
    assert Path("out.csv").read_text() == "id,x,y,name\n0,0,0,a\n0.5,,1,b\n1,1,0.5,c\n"
    assert "passed through as they are: name" in stdout


def test_fit_then_transform_then_back():
    good("fit", "data.csv", "--scaler", "robust", "--save", "s.json")
    good("transform", "data.csv", "--load", "s.json", "-o", "out.parquet")
    good("transform", "out.parquet", "--load", "s.json", "--inverse", "-o", "back.csv")
    assert Path("back.csv").read_text() == Path("data.csv").read_text()


def test_fit_shows_what_it_saw():
    stdout = good("fit", "data.csv", "--scaler", "standard", "--save", "s.json")
    assert rows_of(stdout)["x"] == ["2", "1", "3", "1.5", "1.5", "3", "4.5"]
    assert "3 rows, 3 columns seen by StandardScaler" in stdout
    assert "left out: name" in stdout


def test_the_example():
    good("fit-transform", EXAMPLE, "--scaler", "standard", "-o", "out.csv", "--save", "s.json",
         "--columns", "mean_radius,worst_area")  # fmt: skip
    scaler = nc.load("s.json")
    x = np.genfromtxt(EXAMPLE, delimiter=",", names=True)
    for i, name in enumerate(["mean_radius", "worst_area"]):
        assert scaler.mean_[i] == pytest.approx(x[name].mean(), rel=1e-12)


def test_the_example_is_what_scikit_learn_ships():
    datasets = pytest.importorskip("sklearn.datasets")
    bunch = datasets.load_breast_cancer()
    lines = EXAMPLE.read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    assert np.array_equal(np.array([row[:-1] for row in rows], dtype=float), bunch.data)
    assert [row[-1] for row in rows] == bunch.target_names[bunch.target].tolist()
    names = [name.replace(" ", "_") for name in bunch.feature_names]
    assert lines[0].split(",") == [*names, "diagnosis"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("feature_range=0,2", (0, 2)),
        ("feature_range=(0, 2)", (0, 2)),
        ("feature_range=-1,1e0", (-1, 1.0)),
    ],
)
def test_parameters(text, expected):
    good("fit", "data.csv", "--scaler", "minmax", "--param", text, "--param", "clip=true",
         "--save", "s.json")  # fmt: skip
    scaler = nc.load("s.json")
    assert scaler.feature_range == expected
    assert scaler.clip is True


@pytest.mark.parametrize(("word", "expected"), [("no", False), ("0", False), ("yes", True)])
def test_flags_are_words_or_numbers(word, expected):
    good("fit", "data.csv", "--scaler", "robust", "--param", f"with_centering={word}",
         "--save", "s.json")  # fmt: skip
    assert nc.load("s.json").with_centering is expected


def test_backend():
    outputs = []
    for name in ("reference", "cpu"):
        good("fit-transform", "data.csv", "--scaler", "standard", "--backend", name,
             "-o", "out.csv", "--save", "s.json")  # fmt: skip
        outputs.append(Path("out.csv").read_text())
        # Where it was fitted does not decide where it will serve.
        assert json.loads(Path("s.json").read_text())["params"]["backend"] is None
        good("transform", "data.csv", "--load", "s.json", "--backend", name, "-o", "out2.csv")
        assert Path("out2.csv").read_text() == outputs[-1]
    assert outputs[0] == outputs[1]


def test_quiet():
    assert good("fit-transform", "data.csv", "--scaler", "standard", "-o", "o.csv", "-q") == ""


def test_batches():
    for rows in (1, 2, 1000):
        good("fit-transform", "data.csv", "--scaler", "minmax", "-o", "o.csv", "--no-progress",
             "--batch-rows", rows)  # fmt: skip
        assert Path("o.csv").read_text() == "id,x,y,name\n0,0,0,a\n0.5,,1,b\n1,1,0.5,c\n"


def test_an_existing_output_is_replaced():
    Path("out.csv").write_text("old")
    good("fit-transform", "data.csv", "--scaler", "standard", "-o", "out.csv")
    assert Path("out.csv").read_text() != "old"


def test_a_name_with_a_comma():
    Path("odd.csv").write_text('"a,b",c\n1,2\n3,4\n')
    good("fit-transform", "odd.csv", "--scaler", "minmax", "--columns", '"a,b"', "-o", "o.csv")
    assert Path("o.csv").read_text() == '"a,b",c\n0,2\n1,4\n'


def test_a_name_with_spaces_around_it():
    Path("odd.csv").write_text("a, b\n1,2\n3,4\n")
    good("fit-transform", "odd.csv", "--scaler", "minmax", "--columns", '" b"', "-o", "o.csv")
    assert Path("o.csv").read_text() == "a, b\n1,0\n3,1\n"
    good("fit-transform", "odd.csv", "--scaler", "minmax", "--columns", " a ", "-o", "o.csv")
    assert Path("o.csv").read_text() == "a, b\n0,2\n1,4\n"


def test_brackets_in_names_are_no_markup():
    Path("odd.csv").write_text("[red]x[/red],[b]\n1,y\n2,z\n")
    stdout = good("fit-transform", "odd.csv", "--scaler", "minmax", "-o", "o.csv")
    assert "[red]x[/red] " in stdout
    assert "passed through as they are: [b]" in stdout


def test_names_cannot_break_lines_or_steer_the_terminal():
    Path("odd.csv").write_text('"a\nb","\x1b[2J",""\n1,x,2\n3,y,5\n')
    stdout = good("fit-transform", "odd.csv", "--scaler", "minmax", "-o", "o.csv", "--save", "s")
    assert rows_of(stdout)["a\\nb"][0] == rows_of(stdout)["''"][0] == "2"
    assert "passed through as they are: \\x1b[2J" in stdout
    assert Path("o.csv").read_text() == '"a\nb",\x1b[2J,\n0,x,0\n1,y,1\n'
    assert "a\\nb" in rows_of(good("inspect", "s"))


def test_wide_tables_are_whole_in_a_pipe():
    names = [f"column{i}" for i in range(300)]
    Path("wide.csv").write_text(",".join(names) + "\n" + ",".join("1" * 300) + "\n")
    stdout = good("fit", "wide.csv", "--scaler", "standard", "--save", "s.json")
    assert all(name in rows_of(stdout) for name in names)
    assert all(name in rows_of(good("inspect", "s.json")) for name in names)


def test_a_file_without_a_header_line():
    Path("x.csv").write_text("1,a\n3,b\n")
    fit = ("fit", "x.csv", "--scaler", "minmax", "--save", "s.json")
    status, line = bad(*fit)
    assert status == 1
    assert "x.csv, line 1: numbers stand where the names of the columns should be" in line
    assert "2 rows, 1 column seen" in good(*fit, "--no-header")
    good("transform", "x.csv", "--load", "s.json", "-o", "y.csv", "--no-header")
    assert Path("y.csv").read_text() == "f0,f1\n0,a\n1,b\n"
    good("fit-transform", "x.csv", "--scaler", "minmax", "-o", "z.csv", "--no-header")
    assert Path("z.csv").read_text() == Path("y.csv").read_text()
    assert "1 row, 1 column seen" in good(*fit, "--header")
    assert rows_of(good("inspect", "s.json"))["1"][0] == "1"


# -- looking -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["standard", "minmax", "robust", "maxabs"])
def test_inspect(name):
    good("fit", "data.csv", "--scaler", name, "--save", "s.json")
    stdout = good("inspect", "s.json")
    assert re.search(rf"scaler: +{type(nc.load('s.json')).__name__}\n", stdout)
    assert re.search(r"samples seen: +3\n", stdout)
    assert re.search(r"features: +3\n", stdout)
    header = next(line for line in stdout.splitlines() if line.startswith("column"))
    assert header.split()[:2] == ["column", "count"]
    assert "scale_" in header
    assert rows_of(stdout)["x"][0] == "2"


def test_scalers_and_backends():
    from importlib.metadata import version

    distribution = f"normcore-arrays {version('normcore-arrays')}"
    stdout = good("scalers")
    for name, target in [
        ("standard", "normcore.scaling:StandardScaler"),
        ("maxabs", "normcore_maxabs:MaxAbsScaler"),
    ]:
        assert re.search(rf"^{name} +ready +{distribution} +{target} *$", stdout, re.M)
    stdout = good("backends")
    assert re.search(rf"^reference +ready.* {distribution} +normcore\.reference:", stdout, re.M)
    assert re.search(rf"^cpu +ready.* {distribution} +normcore_cpu\.backend:", stdout, re.M)


def test_what_cannot_be_used_says_why(monkeypatch):
    from normcore.array_backend import selection
    from normcore.array_backend.abstract import BackendStatus

    found = {**selection.backends(), "cpu": BackendStatus(False, "no such device", "status 35")}
    monkeypatch.setattr(selection, "backends", lambda: found)
    assert re.search(r"^cpu +not ready: no such device: status 35 ", good("backends"), re.M)
    status, line = bad("fit", "data.csv", "--scaler", "standard", "--save", "s", "--backend", "cpu")
    assert status == 2
    assert line.startswith("the backend 'cpu' cannot be used here: no such device")


def test_help_and_version():
    assert "fit-transform" in good("--help")
    assert "--inverse" in good("transform", "-h")
    assert nc.__version__ in good("--version")
    result = run()
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


# -- errors ------------------------------------------------------------------------------------

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
        ((*FIT[:3], "zzz", *FIT[4:]), "no scaler 'zzz'; known: maxabs, minmax, robust, standard"),
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
        ("out.xls", "must be one of .arrow, .csv, .feather, .ipc, .npy, .parquet"),
        ("out", "must be one of"),
        ("out.npy", ".npy files hold numbers only"),
    ],
)
def test_outputs_are_checked_before_the_work(output, message, monkeypatch):
    from normcore.io import csv

    Path("directory.csv").mkdir()
    good("fit", "data.csv", "--scaler", "standard", "--save", "s.json")
    monkeypatch.setattr(csv.Csv, "batches", lambda *args, **options: pytest.fail("it was read"))
    for command in (("fit-transform", "--scaler", "minmax"), ("transform", "--load", "s.json")):
        status, line = bad(*command, "data.csv", "-o", output)
        assert status == 1
        assert message in line


def test_where_to_save_is_checked_before_the_work(monkeypatch):
    from normcore.io import csv

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

    for name in [name for name in sys.modules if name.startswith("normcore.io.")]:
        if name.rpartition(".")[2] in ("csv", "arrow", "csv_errors", "libraries"):
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
        "normcore: error: then this in two lines",
    ]
