from normcore_maxabs import MaxAbsScaler as MaxAbsScaler
from normcore_maxabs import maxabs_scale as maxabs_scale
from normcore_persample import GroupNorm as GroupNorm
from normcore_persample import InstanceNorm as InstanceNorm
from normcore_persample import LayerNorm as LayerNorm
from normcore_persample import RMSNorm as RMSNorm

from normcore import functional as functional
from normcore.affine import Affine as Affine
from normcore.backend import Backend as Backend
from normcore.backend import BackendStatus as BackendStatus
from normcore.batchnorm import BatchNorm as BatchNorm
from normcore.discovery import register as register
from normcore.hookspecs import hookimpl as hookimpl
from normcore.io.saved import load_scaler as load
from normcore.order_statistics import Brackets as Brackets
from normcore.order_statistics import Quantiles as Quantiles
from normcore.plugins import scalers as scalers
from normcore.population import population_statistics as population_statistics
from normcore.registry import PluginError as PluginError
from normcore.registry import PluginWarning as PluginWarning
from normcore.registry import Registry as Registry
from normcore.scaling.base import AffineScaler as AffineScaler
from normcore.scaling.base import PointwiseScaler as PointwiseScaler
from normcore.scaling.minmax import MinMaxScaler as MinMaxScaler
from normcore.scaling.robust import RobustScaler as RobustScaler
from normcore.scaling.standard import StandardScaler as StandardScaler
from normcore.selection import backends as backends
from normcore.selection import get_backend as get_backend
from normcore.selection import use_backend as use_backend
from normcore.statistics import Extrema as Extrema
from normcore.statistics import Moments as Moments
from normcore.threads import get_num_threads as get_num_threads
from normcore.threads import register_with_threadpoolctl as register_with_threadpoolctl
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
    "Extrema",
    "MinMaxScaler",
    "Moments",
    "PluginError",
    "PluginWarning",
    "PointwiseScaler",
    "Quantiles",
    "Registry",
    "RobustScaler",
    "StandardScaler",
    "backends",
    "functional",
    "get_backend",
    "get_num_threads",
    "hookimpl",
    "load",
    "population_statistics",
    "register",
    "register_with_threadpoolctl",
    "scalers",
    "set_executor",
    "set_num_threads",
    "set_thread_affinity",
    "use_backend",
    "use_executor",
    "use_num_threads",
]
