"""Damaged files of every format end in what they hold, or in one line that names them."""

import json
import subprocess
import sys

import pytest
from mutations import FORMATS
from processes import environment

from normcore import registration

pytest.importorskip("pyarrow")
pytest.importorskip("pandas")
pytest.importorskip("rich")
pytest.importorskip("click")
pytest.importorskip("resource")

MUTATIONS = 100


@pytest.mark.parametrize("format_", [*FORMATS, "scaler"])
def test_a_hundred_mutations(format_, tmp_path):
    known = {row.name for row in registration.registrations() if row.kind == "source"}
    if format_ != "scaler" and not any(FORMATS[format_][0].endswith(each) for each in known):
        pytest.skip("nothing reads it")
    failures, next_number = {}, 0
    while next_number < MUTATIONS:
        command = [sys.executable, "-m", "mutations", format_, str(next_number), str(MUTATIONS)]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
        )
        lines = done.stdout.splitlines()
        for number, found in zip(lines[::2], lines[1::2], strict=False):
            if found != "[]":
                failures[int(number)] = json.loads(found)
        next_number = MUTATIONS
        if done.returncode:  # in the mutation that it came to last
            assert len(lines) % 2, done.stderr
            failures[int(lines[-1])] = [f"status {done.returncode}: {done.stderr[-2000:]}"]
            next_number = int(lines[-1]) + 1
            for path in tmp_path.iterdir():
                path.unlink()
    assert failures == {}
