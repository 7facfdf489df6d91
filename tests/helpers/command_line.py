"""The command line, run in this process."""

import os

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("rich")
pytest.importorskip("click")
from click import testing

from normcore.cli.app import cli


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
