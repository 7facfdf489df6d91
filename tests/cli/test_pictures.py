"""Histograms and progress bars, as a person sees them."""

import io
import sys

import numpy as np
import pytest
from command_line import good
from processes import run_python

from normcore.cli.histograms import histogram, levels_for
from normcore.cli.progress import progress_bar
from normcore.io import Progress

pytestmark = pytest.mark.usefixtures("folder")
QUARTILES = np.array([0.25, 0.5, 0.75])


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        ([0.0, 1.0, 2.0], "████████"),
        ([0.0, 1.0, 4.0], "██▃▃▃▃▃▃"),  # three times as dense below the median
        ([0.0, 3.0, 4.0], "▃▃▃▃▃▃██"),
        ([0.0, 0.0, 4.0], "█▁▁▁▁▁▁▁"),  # half of what is known in one value
        ([0.0, 4.0, 4.0], "▁▁▁▁▁▁▁█"),
        ([7.0, 7.0, 7.0], "▁▁▁▁█▁▁▁"),
        ([-1e308, 0.0, 1e308], "████████"),  # whose range overflows
        ([0.0, 5e-324, 1e-323], "████████"),
        ([np.nan] * 3, ""),
        ([0.0, 1.0, np.inf], ""),
    ],
)
def test_a_histogram_has_the_shares_that_are_known(values, drawn):
    assert histogram(QUARTILES, np.array(values), 8) == drawn


def test_quantiles_in_any_order():
    q, values = np.array([0.6, 0.5, 0.7]), np.array([1.0, 0.0, 4.0])
    assert histogram(q, values, 8) == "██▃▃▃▃▃▃"
    assert histogram(np.array([0.5, 0.5]), np.array([1.0, 1.0]), 8) == ""
    assert histogram(np.array([0.5]), np.array([1.0]), 8) == ""


def test_many_quantiles_show_the_shape():
    q = np.linspace(0, 1, 1001)
    x = np.random.default_rng(0).normal(size=100_000)
    inside = x[np.abs(x) < 3]
    counts = np.histogram(inside, 12, (inside.min(), inside.max()))[0]
    drawn = histogram(q, np.quantile(inside, q), 12)
    heights = ["▁▂▃▄▅▆▇█".index(each) for each in drawn]
    np.testing.assert_allclose(heights, counts / counts.max() * 8 - 0.5, atol=0.8)


def test_levels_that_an_encoding_has():
    assert levels_for("utf-8") == levels_for("UTF8") == "▁▂▃▄▅▆▇█"
    for encoding in ("ascii", "latin-1", None, "no such"):
        assert levels_for(encoding).isascii()
        assert len(levels_for(encoding)) == 8


def test_inspect_draws_what_a_robust_scaler_knows():
    good("fit", "data.csv", "--scaler", "robust", "--save", "s.json", "--columns", "x,y",
         "--param", "quantile_range=0,100")  # fmt: skip
    lines = good("inspect", "s.json").splitlines()
    (header,) = [line for line in lines if line.startswith("column")]
    assert header.endswith("   0%  50%  100%  0% to 100%")
    (row,) = [line for line in lines if line.startswith("y ")]
    assert row.split()[-4:] == ["10", "20", "30", "█" * 16]


@pytest.mark.parametrize("name", ["standard", "minmax"])
def test_inspect_draws_nothing_that_is_not_known(name):
    good("fit", "data.csv", "--scaler", name, "--save", "s.json")
    stdout = good("inspect", "s.json")
    assert "%" not in stdout
    assert stdout.isascii()


def test_inspect_on_a_terminal_without_blocks(tmp_path):
    good("fit", "data.csv", "--scaler", "robust", "--save", "s.json")
    result = run_python("-m", "normcore", "inspect", "s.json", PYTHONIOENCODING="ascii")
    assert result.stdout.isascii()
    assert "\\u" not in result.stdout
    assert "@" * 16 in result.stdout


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_no_bar_without_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress_bar(True) as show:
        assert show is None
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress_bar(False) as show:
        assert show is None


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize(
    ("state", "words"),
    [
        (Progress("fit", 12_345_678, None, 3 << 30, 4 << 30), ["3.0/4.0 GiB", "12,345,678 rows"]),
        (Progress("fit", 5, 10, 0, None), ["5 rows", "rows/s"]),
        (Progress("transform", 7, None, 2048, None), ["2.0 KiB", "7 rows", "rows/s", "MB/s"]),
        (Progress("fit", 0, None, 0, 0), ["0 rows"]),
    ],
)
def test_a_bar_has_counts_and_speeds(state, words, columns, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar(True) as show:
        show(state)
    lines = [line for line in terminal.getvalue().split("\r") if "rows" in line]
    assert lines
    assert state.step in lines[-1]
    for word in words:
        assert word in lines[-1]
    assert "…" not in lines[-1]
