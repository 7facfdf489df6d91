"""pyarrow, or an error that says how to get it."""

from normcore.io.missing_library import MissingLibrary

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv as pa_csv
    import pyarrow.parquet as pq
except ImportError as error:
    raise MissingLibrary("pyarrow", "reading and writing CSV, Parquet and Arrow files") from error

__all__ = ["pa", "pa_csv", "pc", "pq"]
