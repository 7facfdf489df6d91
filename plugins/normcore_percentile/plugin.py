"""What this distribution offers to normcore."""

import normcore


@normcore.hookimpl
def normcore_register(registry: normcore.Registry) -> None:
    """Register the scaler."""
    registry.scaler("percentile", "normcore_percentile:PercentileScaler")
