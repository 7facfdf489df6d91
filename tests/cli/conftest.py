"""What tests of the command line share."""

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Work in a folder of its own, with a small table."""
    monkeypatch.chdir(tmp_path)
    Path("data.csv").write_text("id,x,y,name\n1,1.5,10,a\n2,,30,b\n3,4.5,20,c\n")
