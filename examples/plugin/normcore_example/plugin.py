"""What this distribution offers to normcore; nothing is imported before it is used."""

import normcore as nc


@nc.hookimpl
def normcore_register(registry):
    """Register the scalers."""
    registry.scaler("root-mean-square", "normcore_example:RootMeanSquareScaler")
    registry.scaler("signed-root", "normcore_example:SignedRootScaler")
    registry.scaler("geometric", "normcore_example:GeometricScaler")
