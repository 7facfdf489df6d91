"""What this distribution offers to normcore."""

import normcore


@normcore.hookimpl
def normcore_register(registry: normcore.Registry) -> None:
    """Register the scaler and its function."""
    registry.scaler("quantile", "normcore_quantile:QuantileTransformer")
    registry.function("quantile_transform", "normcore_quantile:quantile_transform")
