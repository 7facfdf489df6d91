"""What the core itself offers, registered as a plugin would, but without an entry point."""

from normcore.registration.hookspecs import hookimpl
from normcore.registration.registry import Registry


@hookimpl
def normcore_register(registry: Registry) -> None:
    """Register the core's scalers, reference backend, file formats, engine and exporters."""
    registry.scaler("standard", "normcore.scaling:StandardScaler")
    registry.scaler("minmax", "normcore.scaling:MinMaxScaler")
    registry.scaler("robust", "normcore.scaling:RobustScaler")
    registry.backend(
        "reference",
        "normcore.array_backend.reference:ReferenceBackend",
        devices=("*",),
        priority=-100,
    )
    for compression in ("", ".gz", ".zst", ".bz2", ".lz4"):
        registry.source(f".csv{compression}", "normcore.io.csv.source:Csv")
        registry.source(f".tsv{compression}", "normcore.io.csv.source:Tsv")
    registry.source(".parquet", "normcore.io.arrow.parquet:Parquet")
    registry.source(".arrow", "normcore.io.arrow.ipc:ArrowIpc")
    registry.source(".feather", "normcore.io.arrow.ipc:ArrowIpc")
    registry.source(".ipc", "normcore.io.arrow.ipc:ArrowIpc")
    registry.source(".arrows", "normcore.io.arrow.ipc:ArrowIpcStream")
    registry.source(".orc", "normcore.io.arrow.orc:Orc")
    registry.source(".npy", "normcore.io.npy:Npy")
    registry.engine(
        "dask", "normcore.engines.dask:DaskEngine", libraries=("dask", "distributed", "xarray")
    )
    registry.exporter("c", "normcore.export.c:to_c")
    registry.exporter(
        "onnx", "normcore.export.onnx:to_onnx", writer="normcore.export.onnx:to_bytes"
    )
    registry.exporter("polars", "normcore.export.polars:to_polars")
    registry.exporter(
        "sklearn", "normcore.export.sklearn:to_sklearn", writer="normcore.export.sklearn:to_bytes"
    )
    registry.exporter("sql", "normcore.export.sql:to_sql")
    registry.exporter(
        "torch", "normcore.export.torch:to_torch", writer="normcore.export.torch:to_bytes"
    )
