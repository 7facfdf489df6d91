"""What tests of files share."""

import pytest


@pytest.fixture
def write(tmp_path):
    """Write a file of text or bytes; the value is its path."""

    def write(content, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write
