"""How a table is to be written."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["OutputOptions"]


@dataclass(frozen=True)
class OutputOptions:
    """How a table is to be written; None keeps what the source has.

    Attributes
    ----------
    format : str or None
        The suffix of a format, as ".parquet"; None takes that of the name of the output.
    compression : str or None
        As pyarrow calls it; "none" for none.
    row_group_rows : int or None
        Rows of a row group of Parquet, or of a record batch of Arrow.

    Examples
    --------
    >>> from normcore import io
    >>> io.OutputOptions(format=".parquet", compression="zstd").compression
    'zstd'
    """

    format: str | None = None
    compression: str | None = None
    row_group_rows: int | None = None
