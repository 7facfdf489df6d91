"""What this distribution offers to normcore."""

import normcore


@normcore.hookimpl
def normcore_register(registry: normcore.Registry) -> None:
    """Register the scaler and its function."""
    registry.scaler("maxabs", "normcore_maxabs:MaxAbsScaler")
    registry.function("maxabs_scale", "normcore_maxabs:maxabs_scale")
