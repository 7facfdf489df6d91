"""A normcore plugin: tables that are one array in chunks, in an HDF5 file or a Zarr store."""
