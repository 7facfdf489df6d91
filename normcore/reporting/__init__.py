"""Reports on data: what each column holds, and the scaler that suits it."""

from normcore.reporting.column import ColumnReport, Histogram, Quartile, Recommendation
from normcore.reporting.column_scaler import ColumnScaler
from normcore.reporting.data_report import DataReport, recommend, report

__all__ = [
    "ColumnReport",
    "ColumnScaler",
    "DataReport",
    "Histogram",
    "Quartile",
    "Recommendation",
    "recommend",
    "report",
]
