"""Workers of Dask on this machine."""

from contextlib import contextmanager

import pytest

__all__ = ["two_workers"]


@contextmanager
def two_workers(processes=True, **options):
    """Start two of one thread each; the value is a client of theirs.

    Processes have a gibibyte each; else they are in this one, whose memory others have taken, too.
    """
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=processes,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit="1GiB" if processes else None,
            **options,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client
