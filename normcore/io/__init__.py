"""Tables in files: scalers are fitted to them and transform them, batch by batch.

:mod:`normcore.io.pipeline` fits and transforms, :mod:`normcore.io.table` is what a file format has
to supply, and saved scalers are of :mod:`normcore.saving`. Importing this package
imports none of the libraries that read files.
"""

from normcore.io.array_batch import ArrayBatch
from normcore.io.batch import Field, TableBatch, TableWriter, choose_batch_rows, float_dtype
from normcore.io.csv.options import CsvOptions
from normcore.io.files import fit_file, fit_transform_file, transform_file
from normcore.io.missing_library import MissingLibrary
from normcore.io.opening import open_table
from normcore.io.output_options import OutputOptions
from normcore.io.pipeline import fit_source, fit_transform_source, transform_source
from normcore.io.report import Progress, Report
from normcore.io.table import TableSource
from normcore.saving.atomic_output import atomic_output, check_output
from normcore.saving.scaler_file import load_scaler, save_scaler

__all__ = [
    "ArrayBatch",
    "CsvOptions",
    "Field",
    "MissingLibrary",
    "OutputOptions",
    "Progress",
    "Report",
    "TableBatch",
    "TableSource",
    "TableWriter",
    "atomic_output",
    "check_output",
    "choose_batch_rows",
    "fit_file",
    "fit_source",
    "fit_transform_file",
    "fit_transform_source",
    "float_dtype",
    "load_scaler",
    "open_table",
    "save_scaler",
    "transform_file",
    "transform_source",
]
