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


@pytest.fixture
def no_thread_is_left():
    """Find threads that a run has left behind."""
    from table_passes import threads_of_normcore

    yield
    assert not threads_of_normcore()


@pytest.fixture(params=[".csv", ".parquet", ".arrow", ".orc"])
def data(request, tmp_path):
    """The table of passes, in a file of each format."""
    from table_passes import TABLE

    import normcore as nc

    path = tmp_path / f"data{request.param}"
    identity = nc.StandardScaler(with_mean=False, with_std=False)
    nc.io.fit_transform_source(TABLE, path, identity, columns=["b"])
    return path
