"""What all tests share: how hypothesis searches, and a process like a user's."""

import os
import signal

import pytest
from hypothesis import settings
from libraries import LIBRARIES, library

import normcore as nc

# Helpers that assert for tests say as much when they fail.
pytest.register_assert_rewrite(
    "batchnorm_examples", "chromium", "command_line", "conversion_examples", "ranks"
)

# The same examples in every run; `--hypothesis-profile=thorough` looks for new ones.
settings.register_profile("default", derandomize=True, max_examples=60, deadline=None)
settings.register_profile("thorough", derandomize=False, max_examples=1000, deadline=None)
settings.load_profile("default")

# What processes that tests start would inherit: the size of a terminal, which xdist makes up, and
# an ignored Ctrl-C, where a shell runs the tests in the background.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=["reference", "cpu"])
def backend(request):
    """Run a test in the context of each backend for host arrays; the value is its name."""
    status = nc.backends()[request.param]
    if not status.ready:
        pytest.skip(f"{request.param}: {status.reason}")
    with nc.use_backend(request.param):
        yield request.param


@pytest.fixture(params=LIBRARIES)
def on(request, monkeypatch):
    """Run a test of batch norm on the arrays of each library."""
    with library(request.param, monkeypatch) as found:
        yield found
