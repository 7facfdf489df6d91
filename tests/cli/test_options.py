"""Options of the command line reach what reads and writes."""

import pytest
from command_line import good

from normcore.cli import app
from normcore.io import CsvOptions, OutputOptions

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def called(monkeypatch):
    """Collect the options with which the pipeline is called."""
    calls = []
    for name in ("fit_source", "transform_source", "fit_transform_source"):
        original = getattr(app, name)

        def record(*args, original=original, **options):
            calls.append(options)
            kept = {"csv": None, "output": None}
            return original(*args, **{k: kept.get(k, v) for k, v in options.items()})

        monkeypatch.setattr(app, name, record)
    return calls


def options(calls, *words):
    """Return the options of each command, of which the last two commands give one each."""
    calls.clear()
    good("fit", "data.csv", "--scaler", "minmax", "--save", "s.json", *words)
    good("transform", "data.csv", "--load", "s.json", "-o", "o.csv", *words)
    good("fit-transform", "data.csv", "--scaler", "minmax", "-o", "o.csv", *words)
    return calls


def test_nothing_is_said_by_default(called):
    for each in options(called):
        assert each["csv"] is None
        assert each["memory_limit"] == 512 << 20
        assert each["batch_rows"] is None
        assert each["progress"] is None
    assert [each.get("output") for each in called] == [None] * 3
    assert [each.get("columns") for each in called] == [None] * 3


def test_every_option_of_csv(called):
    words = [
        "--no-header", "--delimiter", ";", "--quote", "'", "--decimal", ",", "--thousands", ".",
        "--na", "-,none,", "--encoding", "latin-1", "--skip-rows", "3", "--comment", "#",
    ]  # fmt: skip
    expected = CsvOptions(
        header=False,
        delimiter=";",
        quote="'",
        decimal=",",
        thousands=".",
        na_values=("-", "none", ""),
        encoding="latin-1",
        skip_rows=3,
        comment="#",
    )
    assert [each["csv"] for each in options(called, *words)] == [expected] * 3


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--delimiter", "auto"], CsvOptions(delimiter="auto")),
        (["--delimiter", "tab"], CsvOptions(delimiter="\t")),
        (["--delimiter", "\\t"], CsvOptions(delimiter="\t")),
        (["--delimiter", "\t"], CsvOptions(delimiter="\t")),
        (["--delimiter", "space"], CsvOptions(delimiter=" ")),
        (["--quote", ""], CsvOptions(quote="")),
        (["--na", ""], CsvOptions(na_values=("",))),
        (["--header"], CsvOptions(header=True)),
        (["--skip-rows", "0"], CsvOptions(skip_rows=0)),
    ],
)
def test_characters_and_words(words, expected, called):
    assert options(called, *words)[0]["csv"] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("512MB", 512_000_000), ("2GiB", 2 << 30), ("1.5 gib", 3 << 29), ("100_000_000", 10**8),
     ("64m", 64 << 20), ("1TB", 10**12), ("3e8", 3 * 10**8)],
)  # fmt: skip
def test_memory_limit(text, expected, called):
    for each in options(called, "--memory-limit", text):
        assert each["memory_limit"] == expected


@pytest.mark.parametrize("name", ["parquet", ".parquet", "PARQUET"])
def test_options_of_the_output(name, called):
    words = ["--output-format", name, "--compression", "zstd", "--row-group-rows", "1000"]
    good("fit-transform", "data.csv", "--scaler", "minmax", "-o", "o.csv", *words, "--save", "s")
    good("transform", "data.csv", "--load", "s", "-o", "o.csv", *words)
    expected = OutputOptions(format=".parquet", compression="zstd", row_group_rows=1000)
    assert [each["output"] for each in called] == [expected] * 2


def test_notes_are_printed(monkeypatch):
    original = app.fit_source

    def noting(*args, **options):
        report = original(*args, **options)
        report.notes = ("column '' is left alone",)
        return report

    monkeypatch.setattr(app, "fit_source", noting)
    stdout = good("fit", "data.csv", "--scaler", "minmax", "--save", "s.json")
    assert "note: column '' is left alone\n" in stdout
