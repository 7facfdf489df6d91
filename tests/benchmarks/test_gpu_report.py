"""What becomes of the rows that were measured on a device."""

from __future__ import annotations

import importlib
import json
import sys

import pytest
from cuda_host import build

pytestmark = build.needs_compiler


def test_rows_of_a_run_that_was_cut_short_are_read(gpu, tmp_path, capsys):
    path = tmp_path / "gpu.jsonl"
    row = gpu.rows.Row("moments", (4000, 8000), "float32", "normcore", 1.0, share_of_copy=0.97)
    gpu.rows.append(path, {"machine": {"device": "a device"}})
    gpu.rows.append(path, row._replace(error="later it could")._asdict())
    gpu.rows.append(path, row._asdict())
    whole = path.read_text()
    path.write_text(whole + whole.splitlines()[-1][:40])
    assert gpu.rows.read(path) == ([row], {"machine": {"device": "a device"}})
    more = row._replace(job="extrema")  # of the next run in the same directory
    gpu.rows.append(path, more._asdict())
    assert gpu.rows.read(path) == ([row, more], {"machine": {"device": "a device"}})
    assert path.read_text().splitlines()[:-2] == whole.splitlines()
    path.write_bytes(whole.encode() + b'{"job": "\xc3')  # in the middle of a character
    assert gpu.rows.read(path)[0] == [row]
    gpu.report.write(path)
    assert json.loads((tmp_path / "gpu.json").read_text())["rows"][0]["share_of_copy"] == 0.97
    assert "97% to 97%" in capsys.readouterr().out


def test_targets_are_held_against_what_was_measured(gpu, capsys):
    def row(job, library, milliseconds, share, shape=(4000, 4000)):
        return gpu.rows.Row(job, shape, "float32", library, milliseconds, share_of_copy=share)

    rows = [
        row("moments", "normcore", 1.0, 0.97),
        row("moments", "normcore", 1.0, 0.7, (10, 10)),  # too small to count
        row("extrema", "normcore", 1.0, 0.94),
        row("forward", "normcore", 2.0, 0.5)._replace(graph_milliseconds=1.0),
        row("forward", "torch eager", 3.0, 0.4)._replace(graph_milliseconds=0.75),
        row("forward", "normcore", 1.0, 0.5, (10, 10)),
        row("forward", "torch eager", 1.5, 0.4, (10, 10)),
        row("backward", "normcore", 0.0, 0.0)._replace(error="failed"),
        row("quartiles", "normcore", 1.0, 0.5),
        row("quartiles", "cupy", 12.0, 0.1),
    ]
    found = {(each.job, each.target): each for each in gpu.report.targets(rows)}
    forward = found["forward", "faster than torch eager"]
    assert (forward.least, forward.most, forward.comparisons) == (0.75, 1.5, 2)
    assert {key[0]: each.met for key, each in found.items() if each.met is not None} == {
        "moments": True, "extrema": False, "forward": False, "quartiles": True,
    }  # fmt: skip
    gpu.report.show_targets(list(found.values()), {"moments": 2})
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "moments 95% of a copy's bandwidth 97% to 97% yes 2" in lines
    assert "rescale 95% of a copy's bandwidth not measured - -" in lines
    assert "forward faster than torch eager 0.75 to 1.50 no -" in lines


def test_figures_are_put_on_the_page(gpu, monkeypatch, tmp_path):
    """And what was not measured is not claimed."""
    page = importlib.import_module("benchmarks.gpu.page")
    text = page.PAGE.read_text(encoding="utf-8")
    monkeypatch.setattr(page, "PAGE", tmp_path / "gpu.md")
    page.PAGE.write_text(text, encoding="utf-8")
    rows = [
        gpu.rows.Row("copy", (4000, 4000), "float32", "cupy", 1.0, share_of_copy=1.0),
        gpu.rows.Row("moments", (4000, 4000), "float32", "normcore", 2.0, 1.0, 30.0, 9, 1.0, 0.93),
        gpu.rows.Row("moments", (4000, 4000), "float32", "torch eager", 4.0, share_of_copy=0.2),
        gpu.rows.Row("forward", (8, 4, 2, 2), "float16", "normcore", error="OutOfMemory: all"),
    ]
    path = tmp_path / "gpu.jsonl"
    machine = {
        "device": "a device", "compute_capability": "90", "runtime": 13000, "python": "3.12",
        "cupy": "14.2", "torch": None, "numpy": "2.5",
    }  # fmt: skip
    gpu.rows.append(path, {"machine": machine})
    for row in rows:
        gpu.rows.append(path, row._asdict())
    gpu.report.write(path, to_page=True)
    written = page.PAGE.read_text(encoding="utf-8")
    assert "on one a device (compute capability 90), CUDA 13.0, python 3.12, cupy 14.2," in written
    assert "| moments | 95% of a copy's bandwidth | 93% to 93% | 1 | no |" in written
    assert "| rescale | 95% of a copy's bandwidth |  | 0 | not measured |" in written
    assert "| 2.0000 | 1.0000 | 30 | 93% |  |" in written
    assert "| torch eager | 4.0000 |  | 0 | 20% | 0.25 |" in written
    assert "- forward, 8x4x2x2 float16, normcore: OutOfMemory: all" in written
    assert "Nothing on this page has been measured" not in written
    with pytest.raises(ValueError, match="no part between"):
        page.put("other", "")


def test_no_chart_without_matplotlib(gpu, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert not gpu.report.drawn([], "", tmp_path / "gpu.png")
    assert not (tmp_path / "gpu.png").exists()
