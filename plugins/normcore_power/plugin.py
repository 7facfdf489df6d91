"""What this distribution offers to normcore."""

import normcore


@normcore.hookimpl
def normcore_register(registry: normcore.Registry) -> None:
    """Register the scaler and its function."""
    registry.scaler("power", "normcore_power:PowerTransformer")
    registry.function("power_transform", "normcore_power:power_transform")
