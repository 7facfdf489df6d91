"""What this distribution offers to normcore."""

import normcore


@normcore.hookimpl
def normcore_register(registry: normcore.Registry) -> None:
    """Register the scaler, its compiled map and its function."""
    registry.scaler("quantile", "normcore_quantile:QuantileTransformer")
    registry.kernel("quantile", "normcore_quantile.landmarks:forward", backend="cpu")
    registry.kernel("quantile_inverse", "normcore_quantile.landmarks:inverse", backend="cpu")
    registry.function("quantile_transform", "normcore_quantile:quantile_transform")
