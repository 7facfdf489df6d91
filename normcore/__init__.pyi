from normcore_maxabs import MaxAbsScaler as MaxAbsScaler
from normcore_normalizer import Normalizer as Normalizer
from normcore_normalizer import normalize as normalize
from normcore_percentile import PercentileScaler as PercentileScaler
from normcore_power import PowerTransformer as PowerTransformer
from normcore_power import power_transform as power_transform
from normcore_quantile import QuantileTransformer as QuantileTransformer
from normcore_quantile import quantile_transform as quantile_transform
from normcore_scale import maxabs_scale as maxabs_scale
from normcore_scale import minmax_scale as minmax_scale
from normcore_scale import robust_scale as robust_scale
from normcore_scale import scale as scale

from normcore import functional as functional
from normcore.affine import Affine as Affine
from normcore.affine import nonconstant as nonconstant
from normcore.array_backend.abstract import Backend as Backend
from normcore.array_backend.precision import use_precision as use_precision
from normcore.array_backend.selection import backends as backends
from normcore.array_backend.selection import get_backend as get_backend
from normcore.array_backend.selection import use_backend as use_backend
from normcore.array_backend.status import BackendStatus as BackendStatus
from normcore.batchnorm.layer import BatchNorm as BatchNorm
from normcore.batchnorm.population_statistics import population_statistics as population_statistics
from normcore.c_api import get_include as get_include
from normcore.engines import Engine as Engine
from normcore.export.sklearn import from_sklearn as from_sklearn
from normcore.io.pipeline import fit_source as fit_source
from normcore.io.pipeline import transform_source as transform_source
from normcore.layernorm import GroupNorm as GroupNorm
from normcore.layernorm import InstanceNorm as InstanceNorm
from normcore.layernorm import LayerNorm as LayerNorm
from normcore.layernorm import RMSNorm as RMSNorm
from normcore.layout.infinite_input import InfiniteInput as InfiniteInput
from normcore.package.callers_warning import warn_caller as warn_caller
from normcore.registration import scalers as scalers
from normcore.registration.discovery import register as register
from normcore.registration.hookspecs import hookimpl as hookimpl
from normcore.registration.registry import PluginError as PluginError
from normcore.registration.registry import PluginWarning as PluginWarning
from normcore.registration.registry import Registry as Registry
from normcore.reporting.column_scaler import ColumnScaler as ColumnScaler
from normcore.reporting.data_report import DataReport as DataReport
from normcore.reporting.data_report import recommend as recommend
from normcore.reporting.data_report import report as report
from normcore.saving.scaler_file import load_scaler as load
from normcore.scaling.affine_scaler import AffineScaler as AffineScaler
from normcore.scaling.containers.centered import centered as centered
from normcore.scaling.minmax import MinMaxScaler as MinMaxScaler
from normcore.scaling.pointwise_scaler import PointwiseScaler as PointwiseScaler
from normcore.scaling.quantile_learner import QuantileLearner as QuantileLearner
from normcore.scaling.robust import RobustScaler as RobustScaler
from normcore.scaling.row_scaler import RowScaler as RowScaler
from normcore.scaling.standard import StandardScaler as StandardScaler
from normcore.scaling.weighted_scaler import WeightedScaler as WeightedScaler
from normcore.statistics import Extrema as Extrema
from normcore.statistics import MergeableQuantiles as MergeableQuantiles
from normcore.statistics import Moments as Moments
from normcore.statistics import QuantileSketch as QuantileSketch
from normcore.statistics import Statistic as Statistic
from normcore.statistics.brackets import Brackets as Brackets
from normcore.statistics.brackets import Quantiles as Quantiles
from normcore.threads import get_num_threads as get_num_threads
from normcore.threads import register_with_threadpoolctl as register_with_threadpoolctl
from normcore.threads import run as parallel_for
from normcore.threads import set_executor as set_executor
from normcore.threads import set_num_threads as set_num_threads
from normcore.threads import set_thread_affinity as set_thread_affinity
from normcore.threads import use_executor as use_executor
from normcore.threads import use_num_threads as use_num_threads

__version__: str

__all__ = [
    "Affine",
    "AffineScaler",
    "Backend",
    "BackendStatus",
    "BatchNorm",
    "Brackets",
    "ColumnScaler",
    "DataReport",
    "Engine",
    "Extrema",
    "GroupNorm",
    "InfiniteInput",
    "InstanceNorm",
    "LayerNorm",
    "MergeableQuantiles",
    "MinMaxScaler",
    "Moments",
    "PluginError",
    "PluginWarning",
    "PointwiseScaler",
    "QuantileLearner",
    "QuantileSketch",
    "Quantiles",
    "RMSNorm",
    "Registry",
    "RobustScaler",
    "RowScaler",
    "StandardScaler",
    "Statistic",
    "WeightedScaler",
    "backends",
    "centered",
    "fit_source",
    "from_sklearn",
    "functional",
    "get_backend",
    "get_include",
    "get_num_threads",
    "hookimpl",
    "load",
    "nonconstant",
    "parallel_for",
    "population_statistics",
    "recommend",
    "register",
    "register_with_threadpoolctl",
    "report",
    "scalers",
    "set_executor",
    "set_num_threads",
    "set_thread_affinity",
    "transform_source",
    "use_backend",
    "use_executor",
    "use_num_threads",
    "use_precision",
    "warn_caller",
]
