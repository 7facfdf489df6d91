"""The command line between pipes, and on several files at once."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import environment

pa = pytest.importorskip("pyarrow")
pytest.importorskip("rich")
pytest.importorskip("click")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes of a shell")
FIT = "NORMCORE fit-transform - --scaler minmax"
TEXT = "x,y,name\n1,007,a\n,008,b\n3,009,c\n"
SCALED = "x,y,name\n0,007,a\n,008,b\n1,009,c\n"


@pytest.fixture
def sh(tmp_path):
    """Run a line of sh, in which NORMCORE stands for the command line."""

    def sh(line, data=None):
        line = line.replace("NORMCORE", f"'{sys.executable}' -m normcore")
        return subprocess.run(
            ["sh", "-c", line], cwd=tmp_path, env=environment(), input=data, capture_output=True,
            check=False,
        )  # fmt: skip

    return sh


def test_csv_comes_and_goes(sh):
    result = sh(f"{FIT} -o - --columns x", TEXT.encode())
    assert result.stdout.decode() == SCALED
    assert result.returncode == 0
    summary = result.stderr.decode()
    assert "3 rows, 1 column normalized with MinMaxScaler" in summary
    assert summary.endswith("written: standard output\n")


def test_quiet_pipes_are_quiet(sh):
    result = sh(f"{FIT} -o - --columns x -q | cat", TEXT.encode())
    assert (result.stdout.decode(), result.stderr) == (SCALED, b"")


def test_an_arrow_stream_comes_and_goes(sh):
    table = pa.table({"x": [1.0, None, 3.0], "name": pa.array(["a", "b", "a"]).dictionary_encode()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    result = sh(f"{FIT} -o - -q --output-format arrows", sink.getvalue().to_pybytes())
    assert (result.returncode, result.stderr) == (0, b"")
    back = pa.ipc.open_stream(result.stdout).read_all()
    assert back.column("x").to_pylist() == [0.0, None, 1.0]
    assert back.column("name").to_pylist() == ["a", "b", "a"]
    assert pa.types.is_dictionary(back.schema.field("name").type)


def test_fit_and_transform_of_standard_input(sh, tmp_path):
    data = TEXT.encode()
    assert sh("NORMCORE fit - --scaler minmax --columns x --save s.json", data).returncode == 0
    result = sh("NORMCORE transform - --load s.json -o o.csv", data)
    assert result.returncode == 0
    assert (tmp_path / "o.csv").read_text() == SCALED
    assert b"written: o.csv" in result.stdout


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "standard input is empty"), (b"x,y\n1,2\n3\n", "standard input, line 3: 1 field")],
)
def test_errors_name_standard_input(data, reason, sh, tmp_path):
    result = sh(f"{FIT} -o -", data)
    assert result.returncode == 1
    assert result.stderr.decode().startswith(f"normcore: error: {reason}")
    assert result.stderr.count(b"\n") == 1
    assert os.listdir(tmp_path) == []


def test_a_reader_that_leaves(sh, tmp_path):
    rows = "".join(f"{i},{i}\n" for i in range(300_000))
    (tmp_path / "data.csv").write_text("x,y\n" + rows)
    result = sh("NORMCORE fit-transform data.csv --scaler minmax -o - | head -n 1")
    assert result.stdout == b"x,y\n"
    assert result.stderr == b""


def test_standard_output_that_takes_nothing(sh, tmp_path):
    (tmp_path / "data.csv").write_text("x\n1\n2\n")
    run = "NORMCORE fit-transform data.csv --scaler minmax -o -"
    closed = sh(f"{run} >&-")
    assert closed.returncode == 1
    assert closed.stderr == b"normcore: error: standard output: cannot write: it is closed\n"
    if Path("/dev/full").exists():
        full = sh(f"{run} > /dev/full")
        assert full.returncode == 1
        assert full.stderr == b"normcore: error: standard output: No space left on device\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_waiting_for_input(number, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-m", "normcore", "fit-transform", "-", "--scaler", "minmax",
         "-o", "o.csv"],
        cwd=tmp_path, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        # More than a pipe holds: when it is written, someone reads it.
        process.stdin.write(b"x,y\n" + b"1,2\n" * 100_000)
        process.stdin.flush()
        time.sleep(0.5)
        started = time.perf_counter()
        process.send_signal(number)
        stderr = process.stderr.read()
        process.wait(timeout=30)
        assert time.perf_counter() - started < 5
    assert process.returncode == 128 + number
    assert stderr.strip().count(b"\n") == 0
    assert stderr.strip().startswith(b"normcore: error: ")
    assert os.listdir(tmp_path) == []


def test_a_directory_and_a_pattern(sh, tmp_path):
    (tmp_path / "in").mkdir()
    for number in (1, 2):
        (tmp_path / "in" / f"part-{number}.csv").write_text(f"x,name\n{number},a\n{number + 2},b\n")
    for data in ("in", "'in/part-*.csv'"):
        result = sh(f"NORMCORE fit-transform {data} --scaler minmax -o o.csv")
        assert result.returncode == 0, result.stderr
        rows = (tmp_path / "o.csv").read_text().splitlines()
        assert rows[0] == "x,name"
        assert [float(row.split(",")[0]) for row in rows[1:]] == pytest.approx([0, 2 / 3, 1 / 3, 1])
        for output in ("in/part-3.csv", "in/part-1.csv"):
            refused = sh(f"NORMCORE fit-transform {data} --scaler minmax -o {output}")
            assert refused.returncode == 1
            assert re.search(rb"is (part of )?the input too; choose another name", refused.stderr)
            assert refused.stderr.count(b"\n") == 1
    assert sorted(os.listdir(tmp_path / "in")) == ["part-1.csv", "part-2.csv"]
