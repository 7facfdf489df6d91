"""The version, and where each public name is defined; imports nothing."""

__version__ = "0.1.0"

#: Each public name and the module that defines it, with its name there if that is another.
ORIGINS = {
    "Affine": "affine",
    "AffineScaler": "scaling",
    "Backend": "array_backend.abstract",
    "BackendStatus": "array_backend.abstract",
    "BatchNorm": "batchnorm.layer",
    "Brackets": "statistics",
    "ColumnScaler": "reporting.column_scaler",
    "DataReport": "reporting.data_report",
    "Engine": "engines",
    "Extrema": "statistics",
    "GroupNorm": "layernorm",
    "InstanceNorm": "layernorm",
    "LayerNorm": "layernorm",
    "MergeableQuantiles": "statistics",
    "MinMaxScaler": "scaling",
    "Moments": "statistics",
    "PluginError": "registration.registry",
    "PluginWarning": "registration.registry",
    "PointwiseScaler": "scaling",
    "QuantileLearner": "scaling",
    "QuantileSketch": "statistics",
    "Quantiles": "statistics",
    "RMSNorm": "layernorm",
    "Registry": "registration.registry",
    "RobustScaler": "scaling",
    "RowScaler": "scaling",
    "StandardScaler": "scaling",
    "Statistic": "statistics",
    "WeightedScaler": "scaling",
    "backends": "array_backend.selection",
    "centered": "scaling.containers.centered",
    "fit_source": "io.pipeline",
    "get_backend": "array_backend.selection",
    "get_num_threads": "threads",
    "hookimpl": "registration.hookspecs",
    "load": "saving.scaler_file:load_scaler",
    "nonconstant": "affine",
    "parallel_for": "threads:run",
    "population_statistics": "batchnorm.population_statistics",
    "recommend": "reporting.data_report",
    "register": "registration.discovery",
    "register_with_threadpoolctl": "threads",
    "report": "reporting.data_report",
    "scalers": "registration",
    "set_executor": "threads",
    "set_num_threads": "threads",
    "set_thread_affinity": "threads",
    "transform_source": "io.pipeline",
    "use_backend": "array_backend.selection",
    "use_executor": "threads",
    "use_num_threads": "threads",
    "use_precision": "array_backend.precision",
}

#: Public submodules that are attributes of the package.
SUBMODULES = ("functional",)

ALL = sorted([*ORIGINS, *SUBMODULES])
