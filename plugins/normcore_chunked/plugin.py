"""What this distribution offers to normcore."""

import normcore


@normcore.hookimpl
def normcore_register(registry: normcore.Registry) -> None:
    """Register the formats; their libraries are imported when a table is opened."""
    registry.source(".h5", "normcore_chunked.hdf5:Hdf5")
    registry.source(".hdf5", "normcore_chunked.hdf5:Hdf5")
    registry.source(".zarr", "normcore_chunked.zarr_store:Zarr")
