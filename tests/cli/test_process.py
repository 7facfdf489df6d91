"""The command line as a process: signals, terminals, pipes, missing libraries."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from processes import environment, run_python

pytest.importorskip("pyarrow")
pytest.importorskip("rich")
pytest.importorskip("click")

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and terminals")
COMMAND = [sys.executable, "-m", "normcore"]


def run(*args, cwd, **options):
    return run_python("-m", "normcore", *args, cwd=cwd, check=False, **options)


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("x,y\n1,2\n3,4\n")
    return path


def test_success(data, tmp_path):
    result = run("fit-transform", data, "--scaler", "standard", "-o", "out.csv", cwd=tmp_path)
    assert result.returncode == 0
    assert result.stderr == ""
    assert (tmp_path / "out.csv").read_text() == "x,y\n-1,-1\n1,1\n"
    assert "2 rows, 2 columns" in result.stdout


def test_failure_is_one_line(tmp_path):
    result = run("fit", "none.csv", "--scaler", "standard", "--save", "s", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == "normcore: error: none.csv: No such file\n"


# A run that stops in the middle of writing, and says so, until a signal comes.
STOPPED = """
import sys, time
from normcore.io import table
from normcore.io.csv import source as csv
original = csv.CsvWriter.write
def write(self, batch):
    original(self, batch)
    if batch.first_row > 1000:
        self._file.flush()
        print("half", flush=True)
        time.sleep(60)
csv.CsvWriter.write = write
from normcore.cli import main
main()
"""


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("existing", [None, "precious"])
def test_a_signal_in_the_middle(number, existing, tmp_path):
    rows = "".join(f"{i},{i % 7}\n" for i in range(5000))
    (tmp_path / "data.csv").write_text("x,y\n" + rows)
    output = tmp_path / "out.csv"
    if existing:
        output.write_text(existing)
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, "fit-transform", "data.csv", "--scaler", "standard",
         "-o", "out.csv", "--save", "s.json", "--batch-rows", "500"],
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=partial(signal.signal, number, signal.SIG_DFL),  # which nohup has ignored
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "half\n"
        halves = [path for path in tmp_path.iterdir() if path.name.startswith(".out.")]
        assert len(halves) == 1
        assert halves[0].stat().st_size > 0
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + number
    assert stdout == ""
    # A line break comes first where a terminal shows ^C.
    assert re.fullmatch(r"\n?normcore: error: (interrupted|stopped by SIG\w+)\n", stderr)
    assert (output.read_text() if output.exists() else None) == existing
    left = {"data.csv", "out.csv"} if existing else {"data.csv"}
    assert set(os.listdir(tmp_path)) == left


@posix
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
def test_a_signal_at_any_moment(suffix, tmp_path):
    """Real runs, stopped after different times: the output is whole, old or absent."""
    from normcore.io import ArrayBatch
    from normcore.io.opening import source_class

    data = tmp_path / f"data{suffix}"
    block = np.random.default_rng(0).normal(size=(10_000, 8))
    names = [f"x{i}" for i in range(8)]
    with source_class(data).writer(data) as writer:
        for i in range(30):
            writer.write(ArrayBatch(i * 10_000, names, block))
    output = tmp_path / f"out{suffix}"
    args = ["fit-transform", data, "--scaler", "standard", "-o", output]
    started = time.perf_counter()
    assert run(*args, cwd=tmp_path).returncode == 0
    duration = time.perf_counter() - started
    whole = output.read_bytes()
    for i, number in enumerate([signal.SIGINT, signal.SIGTERM, signal.SIGINT, signal.SIGTERM]):
        output.write_text("old")
        process = subprocess.Popen(
            [*COMMAND, *map(str, args)],
            cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        time.sleep(duration * (0.5 + 0.15 * i))
        process.send_signal(number)
        process.communicate(timeout=30)
        assert output.read_bytes() in (b"old", whole)
        assert set(os.listdir(tmp_path)) == {data.name, output.name}


@posix
@pytest.mark.parametrize("columns", [80, 200])
def test_a_terminal(columns, data, tmp_path):
    import fcntl
    import pty
    import struct
    import termios

    names = [f"a_rather_long_name_{i}" for i in range(60)]
    lines = [",".join(str(i * j) for j in range(60)) for i in range(1000)]
    (tmp_path / "wide.csv").write_text("\n".join([",".join(names), *lines]) + "\n")
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, "fit-transform", "wide.csv", "--scaler", "standard", "-o", "out.csv",
         "--batch-rows", "10"],
        cwd=tmp_path, env=environment(TERM="xterm"), stdout=slave, stderr=slave,
        stdin=slave,
    )  # fmt: skip
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(master)
    assert process.wait(timeout=30) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"fit .*rows", text)
    assert re.search(r"transform.*1,000 rows", text)
    assert "... and 20 more columns" in text
    assert "a_rather_long_name_39" in text
    assert "a_rather_long_name_40" not in text
    table = text[text.rindex("column ") if columns == 200 else text.index("column ") :]
    assert all(len(line) <= columns for line in table.splitlines() if "passed" not in line)
    assert text.count("a_rather_long_name_7 ") == (1 if columns == 200 else 2)


@posix
def test_no_progress_on_a_terminal(data, tmp_path):
    import pty

    for options in ([], ["--no-progress"], ["--quiet"]):
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [*COMMAND, "fit", "data.csv", "--scaler", "standard", "--save", "s.json", *options],
            cwd=tmp_path, env=environment(TERM="xterm"), stdout=subprocess.PIPE,
            stderr=slave,
        )  # fmt: skip
        process.communicate(timeout=30)
        os.close(slave)
        try:
            shown = os.read(master, 65536)
        except OSError:
            shown = b""
        os.close(master)
        assert process.returncode == 0
        assert bool(shown) is (not options)


@posix
def test_a_reader_that_leaves_early(tmp_path):
    names = ",".join(f"column{i}" for i in range(20_000))
    (tmp_path / "wide.csv").write_text(f"{names}\n{','.join('1' * 20_000)}\n")
    process = subprocess.Popen(
        [*COMMAND, "fit", "wide.csv", "--scaler", "standard", "--save", "s.json"],
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    process.wait(timeout=30)
    assert errors == b""
    assert (tmp_path / "s.json").exists()


@pytest.mark.parametrize("library", ["click", "rich"])
def test_without_the_extra(library, tmp_path):
    code = f"import sys; sys.modules[{library!r}] = None; from normcore.cli import main; main()"
    result = run_python("-c", code, "scalers", cwd=tmp_path, check=False)
    assert result.returncode == 1
    assert result.stderr == (
        f'normcore: error: the command line needs {library}: pip install "normcore-arrays[cli]"\n'
    )


def test_looking_imports_no_pyarrow(tmp_path):
    code = (
        "import sys\n"
        "from normcore.cli.app import cli\n"
        "try: cli(['scalers'])\n"
        "except SystemExit: pass\n"
        "print('pyarrow' in sys.modules)"
    )
    result = run_python("-c", code, cwd=tmp_path)
    assert result.stdout.splitlines()[-1] == "False"


def test_an_unwritable_directory_is_found_out_first(tmp_path):
    if not Path("/proc/version").exists():
        pytest.skip("needs a directory where even root cannot write")
    (tmp_path / "data.csv").write_text("x\n1\n2\n")
    result = run(
        "fit-transform", "data.csv", "--scaler", "standard", "-o", "/proc/out.csv", cwd=tmp_path
    )
    assert result.returncode == 1
    assert result.stderr.startswith("normcore: error: /proc/out.csv: cannot write")


@posix
def test_an_input_that_may_not_be_read(data, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    data.chmod(0)
    for args in (("fit", data, "--scaler", "standard", "--save", "s"), ("inspect", data)):
        result = run(*args, cwd=tmp_path)
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert "data.csv: Permission denied" in result.stderr


def test_names_that_the_terminal_cannot_show(tmp_path):
    (tmp_path / "data.csv").write_text("höhe,漢\n1,2\n3,4\n", encoding="utf-8")
    result = run(
        "fit",
        "data.csv",
        "--scaler",
        "standard",
        "--save",
        "s.json",
        cwd=tmp_path,
        PYTHONIOENCODING="ascii",
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "h\\xf6he" in result.stdout
    assert "\\u6f22" in result.stdout


def shell(command, cwd):
    """Run a line of sh, in which NORMCORE stands for the command line."""
    line = command.replace("NORMCORE", f"'{sys.executable}' -m normcore")
    return subprocess.run(
        ["sh", "-c", line], cwd=cwd, env=environment(), capture_output=True, text=True, check=False
    )


@posix
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed, data, tmp_path):
    result = shell(f"NORMCORE fit-transform data.csv --scaler standard -o o.csv {closed}", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "o.csv").read_text() == "x,y\n-1,-1\n1,1\n"
    assert shell(f"NORMCORE scalers {closed}", tmp_path).returncode == 0
    failed = shell(f"NORMCORE fit none.csv --scaler standard --save s {closed}", tmp_path)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "Traceback" not in failed.stderr


@posix
def test_a_full_disk_under_the_summary(data, tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    result = shell("NORMCORE fit data.csv --scaler standard --save s.json > /dev/full", tmp_path)
    reason = os.strerror(errno.ENOSPC)
    assert result.stderr == f"normcore: error: standard output: {reason}\n"
    assert result.returncode == 1
    assert (tmp_path / "s.json").exists()


@posix
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".arrow", ".npy"])
def test_a_full_disk_under_the_output(suffix, tmp_path):
    """A limit on the size of files is what every user can set up."""
    np.save(tmp_path / "data.npy", np.random.default_rng(0).normal(size=(50_000, 4)))
    command = f"NORMCORE fit-transform data.npy --scaler standard -o out{suffix} -q"
    result = shell(f"ulimit -f 64; {command}", tmp_path)
    assert result.returncode == 1
    reason = os.strerror(errno.EFBIG)
    assert result.stderr == f"normcore: error: out{suffix}: cannot write: {reason}\n"
    assert os.listdir(tmp_path) == ["data.npy"]
    assert shell(command, tmp_path).returncode == 0


@posix
def test_a_killed_run_leaves_nothing_to_the_next(tmp_path):
    (tmp_path / "data.csv").write_text("x,y\n" + "".join(f"{i},{i % 7}\n" for i in range(5000)))
    args = ["fit-transform", "data.csv", "--scaler", "standard", "-o", "out.csv"]
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED, *args, "--batch-rows", "500"],
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "half\n"
        process.kill()
    assert any(path.name.startswith(".out.") for path in tmp_path.iterdir())
    assert run(*args, cwd=tmp_path).returncode == 0
    assert set(os.listdir(tmp_path)) == {"data.csv", "out.csv"}


@posix
def test_an_impatient_user(tmp_path):
    """A second Ctrl-C does not interrupt the removal that the first one began."""
    (tmp_path / "data.csv").write_text("x\n" + "1\n2\n" * 5000)
    slow = (
        "import time, pathlib\n"
        "unlink = pathlib.Path.unlink\n"
        "def slowly(self, **options):\n"
        "    if '.tmp' in self.name and self.stat().st_size:\n"
        "        print('removing', flush=True)\n"
        "        time.sleep(0.5)\n"
        "    unlink(self, **options)\n"
        "pathlib.Path.unlink = slowly\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", slow + STOPPED, "fit-transform", "data.csv", "--scaler", "minmax",
         "-o", "out.csv", "--batch-rows", "500"],
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "removing\n"
        process.send_signal(signal.SIGINT)
        stderr = process.stderr.read()
    assert process.returncode == 128 + signal.SIGINT
    assert stderr.strip() == "normcore: error: interrupted"
    assert os.listdir(tmp_path) == ["data.csv"]


UNEXPECTED = """
import sys
from normcore.cli import app
class Panic(BaseException): pass
def load(path): raise {what}
app.load_scaler = load
from normcore.cli import main
main()
"""


@pytest.mark.parametrize(
    "what", ["KeyError('odd\\x1b[2J')", "Panic('odd')", "RecursionError('odd')"]
)
def test_no_traceback_of_any_library(what, tmp_path):
    code = UNEXPECTED.format(what=what)
    result = run_python("-c", code, "inspect", "s.json", cwd=tmp_path, check=False)
    assert result.returncode == 1
    assert result.stdout == ""
    assert re.fullmatch(r"normcore: error: s\.json: .*odd.*\n", result.stderr)
    assert "\x1b" not in result.stderr
    result = run_python(
        "-c", code, "inspect", "s.json", cwd=tmp_path, check=False, NORMCORE_TRACEBACK="1"
    )
    assert "in load" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("normcore: error: s.json: ")


def test_threads_that_fail_show_no_traceback(tmp_path):
    code = (
        "import threading\n"
        "from normcore.cli import app, main\n"
        "def load(path):\n"
        "    thread = threading.Thread(target=lambda: 1 / 0)\n"
        "    thread.start()\n"
        "    thread.join()\n"
        "    raise ValueError('it failed in s.json')\n"
        "app.load_scaler = load\n"
        "main()"
    )
    result = run_python("-c", code, "inspect", "s.json", cwd=tmp_path, check=False)
    assert result.stderr == "normcore: error: it failed in s.json\n"
