"""Worker processes of Dask on this machine."""

from contextlib import contextmanager

import pytest

__all__ = ["two_workers"]


@contextmanager
def two_workers(**options):
    """Start two of one thread and a gibibyte each; the value is a client of theirs."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit="1GiB",
            **options,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client
