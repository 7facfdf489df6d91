"""Arrays of other libraries as NumPy's."""

import numpy as np
import pytest

from normcore.layout.namespace import host_view


def test_read_only_memory_that_another_library_wraps_is_viewed():
    """DLPack of NumPy 2.0 refuses it."""
    memory = np.arange(6.0).reshape(2, 3)
    memory.flags.writeable = False
    view = host_view(pytest.importorskip("array_api_strict").asarray(memory))
    assert np.shares_memory(view, memory)
    assert not view.flags.writeable


def test_what_speaks_dlpack_alone_says_why_it_gives_nothing():
    class Refusing:
        def __dlpack__(self, **options):
            raise BufferError("it is in use")

        def __dlpack_device__(self):
            return 1, 0

    with pytest.raises(BufferError, match="it is in use"):
        host_view(Refusing())
