"""Tables in files: scalers are fitted to them and transform them, batch by batch.

:mod:`normcore.io.pipeline` fits and transforms, :mod:`normcore.io.table` is what a file format has
to supply, and saved scalers are of :mod:`normcore.saving`. Importing this package
imports none of the libraries that read files.
"""

from normcore.io.array_batch import ArrayBatch
from normcore.io.pipeline import Progress, Report, fit_file, fit_transform_file, transform_file
from normcore.io.table import (
    Field,
    MissingLibrary,
    TableBatch,
    TableSource,
    TableWriter,
    open_table,
)
from normcore.saving.atomic_output import atomic_output, check_output
from normcore.saving.scaler_file import load_scaler, save_scaler

__all__ = [
    "ArrayBatch",
    "Field",
    "MissingLibrary",
    "Progress",
    "Report",
    "TableBatch",
    "TableSource",
    "TableWriter",
    "atomic_output",
    "check_output",
    "fit_file",
    "fit_transform_file",
    "load_scaler",
    "open_table",
    "save_scaler",
    "transform_file",
]
