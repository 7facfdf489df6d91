"""The text of a CSV file: bytes of UTF-8, whatever the file is compressed and encoded with."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from normcore.io.libraries import pa

__all__ = ["COMPRESSIONS", "CsvText", "compression_of"]

#: What a suffix means, as pyarrow calls it.
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def compression_of(path: Path) -> str | None:
    """Return the name that pyarrow has for the compression that a suffix means."""
    return COMPRESSIONS.get(path.suffix.lower())


class CsvText:
    """Reads the text of a file from its beginning, once.

    Parameters
    ----------
    source : path, or a binary file
        The latter is left open.
    name : str
        For messages.
    encoding : str
    """

    def __init__(self, source: Path | BinaryIO, name: str, encoding: str = "utf-8") -> None:
        self._name = name
        self._owned = isinstance(source, Path)
        self._raw = _Counted(source.open("rb") if isinstance(source, Path) else source)
        first = self._raw.peek()
        compression = compression_of(source) if isinstance(source, Path) else None
        for magic, codec in _MAGIC.items():
            if not self._owned and first.startswith(magic):
                compression = codec
        self._codec = compression
        self._file: BinaryIO | pa.NativeFile = self._raw
        with self._errors():
            if compression is not None:
                inner = pa.PythonFile(self._raw, mode="r")
                self._file = pa.CompressedInputStream(inner, compression)
            start = self._read_exactly(4)
        encoding = codecs.lookup(encoding).name
        if encoding in ("utf-8", "utf-8-sig"):
            encoding = "utf-16" if start.startswith(_UTF16) else "utf-8"
            start = start.removeprefix(codecs.BOM_UTF8)
        plain = encoding in ("utf-8", "ascii")
        self._decoder = None if plain else codecs.getincrementaldecoder(encoding)()
        self._encoding = encoding
        self._lines = 1
        self._text = self._decoded(start, final=False)

    @property
    def bytes_read(self) -> int:
        """How far it has come in the file."""
        return self._raw.count

    def read(self, size: int) -> bytes:
        """Return some bytes of UTF-8, at least one unless the text ends.

        Whether they are UTF-8 is not looked at where the file claims it.

        Raises
        ------
        ValueError
            If the file is damaged, or its text is not of the encoding.
        """
        while not self._text:
            with self._errors():
                data = self._file.read(size)
            self._text = self._decoded(data, final=not data)
            if not data:
                break
        text, self._text = self._text, b""
        return text

    def unread(self, data: bytes) -> None:
        """Put back what was read last."""
        self._text = data + self._text

    def close(self) -> None:
        """Close what was opened here."""
        if self._owned:
            self._raw.close()

    def _read_exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (more := self._file.read(size - len(data))):
            data += more
        return data

    def _decoded(self, data: bytes, *, final: bool) -> bytes:
        if self._decoder is None:
            return data
        try:
            text = self._decoder.decode(data, final)
        except UnicodeDecodeError as error:
            good = error.object[: error.start].decode(self._encoding, "ignore")
            line = self._lines + good.count("\n")
            raise ValueError(
                f"{self._name}, line {line}: the text is not {self._encoding} ({error.reason} "
                f"0x{error.object[error.start : error.end].hex()}); name the right encoding "
                "(--encoding)"
            ) from error
        self._lines += text.count("\n")
        return text.encode()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            if self._codec is None or getattr(error, "errno", None) is not None:
                raise
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{self._name} is not a readable {self._codec} file, or was cut off: {reason}"
            ) from error


class _Counted(io.RawIOBase, BinaryIO):
    """A binary file that counts what was read and never seeks."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._ahead = b""
        self.count = 0

    def readable(self) -> bool:
        return True

    def peek(self) -> bytes:
        """Return the first four bytes."""
        while len(self._ahead) < 4 and (more := self._file.read(4 - len(self._ahead))):
            self._ahead += more
        return self._ahead

    def read(self, size: int = -1) -> bytes:
        data = self._ahead or self._file.read(size)
        self._ahead = b""
        self.count += len(data)
        return data

    def close(self) -> None:
        self._file.close()
        super().close()
