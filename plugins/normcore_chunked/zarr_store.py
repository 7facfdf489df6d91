"""Zarr stores, which are directories."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, NoReturn

from normcore.io import MissingLibrary, OutputOptions
from normcore_chunked.source import ArraySource, Stored

try:
    import zarr
except ImportError as error:
    raise MissingLibrary("zarr", "reading Zarr stores", install='"zarr>=3"') from error
if int(zarr.__version__.partition(".")[0]) < 3:
    raise MissingLibrary("zarr 3", "reading Zarr stores", install='"zarr>=3"')

__all__ = ["Zarr"]


class Zarr(ArraySource):
    """The one 2-D array of real numbers in a Zarr store of format 2 or 3.

    A chunk that is not there has the fill value throughout, as Zarr has it.
    """

    format: ClassVar[str] = "Zarr"
    is_directory: ClassVar[bool] = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.name = str(path)
        if not self.path.is_dir():
            raise ValueError(f"{self.name} is a file; a Zarr store is a directory")
        self.num_bytes = sum(file.stat().st_size for file in self.files)
        self._find_table()

    @property
    def files(self) -> Sequence[Path]:
        """See :attr:`TableSource.files`."""
        return sorted(each for each in self.path.rglob("*") if each.is_file())

    @contextmanager
    def _arrays(self) -> Iterator[Mapping[str, Stored]]:
        with self._errors(" is not a readable Zarr store"):
            node = zarr.open(self.path, mode="r")
            arrays = {"the array": node}
            if isinstance(node, zarr.Group):
                # Consolidated metadata is a copy, and may be older than the arrays.
                group = zarr.open_group(self.path, mode="r", use_consolidated=False)
                members = group.members(max_depth=None)
                arrays = {path: each for path, each in members if isinstance(each, zarr.Array)}
            stored = {
                path: Stored(each, each.shape, each.dtype, each.chunks[0] if each.chunks else 1)
                for path, each in sorted(arrays.items())
            }
        yield stored

    @classmethod
    def check_output(cls, path: Path | None, output: OutputOptions) -> NoReturn:
        """See :meth:`TableSource.check_output`."""
        raise ValueError(
            "Zarr stores are read only: a directory cannot be replaced in one step; write .h5, "
            ".npy or .parquet instead"
        )
