"""What this distribution offers to normcore."""

import normcore


@normcore.hookimpl
def normcore_register(registry: normcore.Registry) -> None:
    """Register the scaler, its compiled map and its function."""
    registry.scaler("power", "normcore_power:PowerTransformer")
    registry.kernel("power", "normcore_power.curve:forward", backend="cpu")
    registry.kernel("power_inverse", "normcore_power.inverse_map:inverse", backend="cpu")
    registry.function("power_transform", "normcore_power:power_transform")
