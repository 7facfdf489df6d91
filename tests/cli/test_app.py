"""The command line, run in this process."""

import json
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from command_line import bad, good, run
from discovery import make_plugin, more_discovery
from paths import ROOT

import normcore as nc

EXAMPLE = ROOT / "examples" / "data" / "breast_cancer.csv"
pytestmark = pytest.mark.usefixtures("folder")


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
    target = r"normcore\.array_backend\.reference:"
    assert re.search(rf"^reference +ready.* {distribution} +{target}", stdout, re.M)
    assert re.search(rf"^cpu +ready.* {distribution} +normcore_cpu\.backend:", stdout, re.M)


def test_plugins_are_listed_with_all_that_they_register():
    status, words = bad("plugins", "absent")
    assert status == 2
    assert words.startswith("no distribution 'absent' registers anything")
    stdout = good("plugins")
    for spelling in ("normcore-arrays", "NormCore_Arrays"):
        assert "normcore-arrays" in good("plugins", spelling)
    for kind, name, target in [
        ("scaler", "maxabs", "normcore_maxabs:MaxAbsScaler"),
        ("kernel", "power", r"normcore_power\.curve:forward"),
        ("source", r"\.npy", r"normcore\.io\.npy:Npy"),
        ("exporter", "sql", r"normcore\.export\.sql:to_sql"),
    ]:
        assert re.search(rf"^{kind} +{name} +ready +normcore-arrays .* {target} *$", stdout, re.M)
    assert re.search(r"^backend +cpu +ready", stdout, re.M)
    assert re.search(r"^exporter +sql +ready", stdout, re.M)


def test_a_plugin_with_a_target_of_another_kind_is_listed_as_not_ready(monkeypatch):
    more_discovery(monkeypatch)
    nc.register(make_plugin("registry.exporter('odd', 'odd_of_tests:number')"))
    odd = types.ModuleType("odd_of_tests")
    odd.number = 42
    monkeypatch.setitem(sys.modules, "odd_of_tests", odd)
    for command, start in (("plugins", "exporter +odd"), ("exporters", "odd")):
        said = re.search(rf"^{start} +not ready: (.*)$", good(command), re.M)[1]
        assert "plugin 'hosted', registered by the application: the target" in said
        assert "of exporter 'odd' is not a callable but 42" in said


def test_an_exporter_without_its_writer_is_listed_as_not_ready(monkeypatch):
    more_discovery(monkeypatch)
    nc.register(make_plugin("registry.exporter('odd', 'operator:neg', writer='operator:absent')"))
    assert re.search(r"^odd +not ready: .*has no attribute 'absent'", good("exporters"), re.M)


def test_what_cannot_be_used_says_why(monkeypatch):
    from normcore.array_backend import selection
    from normcore.array_backend.status import BackendStatus

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
