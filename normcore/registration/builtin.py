"""What the core itself offers, registered as a plugin would, but without an entry point."""

from normcore.registration.hookspecs import hookimpl
from normcore.registration.registry import Registry


@hookimpl
def normcore_register(registry: Registry) -> None:
    """Register the core's scalers, its reference backend and its file formats."""
    registry.scaler("standard", "normcore.scaling:StandardScaler")
    registry.scaler("minmax", "normcore.scaling:MinMaxScaler")
    registry.scaler("robust", "normcore.scaling:RobustScaler")
    registry.backend(
        "reference",
        "normcore.array_backend.reference:ReferenceBackend",
        devices=("*",),
        priority=-100,
    )
    registry.source(".csv", "normcore.io.csv:Csv")
    registry.source(".parquet", "normcore.io.arrow:Parquet")
    registry.source(".arrow", "normcore.io.arrow:ArrowIpc")
    registry.source(".feather", "normcore.io.arrow:ArrowIpc")
    registry.source(".ipc", "normcore.io.arrow:ArrowIpc")
    registry.source(".npy", "normcore.io.npy:Npy")
