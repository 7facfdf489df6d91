"""Three scalers for normcore."""

from normcore_example.geometric import GeometricScaler
from normcore_example.root_mean_square import RootMeanSquareScaler
from normcore_example.signed_root import SignedRootScaler

__all__ = ["GeometricScaler", "RootMeanSquareScaler", "SignedRootScaler"]
