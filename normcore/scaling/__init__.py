"""Input scalers: the bases that others derive from, and three affine ones."""

from normcore.scaling.affine_scaler import AffineScaler
from normcore.scaling.minmax import MinMaxScaler
from normcore.scaling.pointwise_scaler import PointwiseScaler
from normcore.scaling.quantile_learner import QuantileLearner
from normcore.scaling.robust import RobustScaler
from normcore.scaling.row_scaler import RowScaler
from normcore.scaling.standard import StandardScaler
from normcore.scaling.weighted_scaler import WeightedScaler

__all__ = [
    "AffineScaler",
    "MinMaxScaler",
    "PointwiseScaler",
    "QuantileLearner",
    "RobustScaler",
    "RowScaler",
    "StandardScaler",
    "WeightedScaler",
]
