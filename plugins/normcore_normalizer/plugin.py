"""What this distribution offers to normcore."""

import normcore


@normcore.hookimpl
def normcore_register(registry: normcore.Registry) -> None:
    """Register the scaler and its function."""
    registry.scaler("normalizer", "normcore_normalizer:Normalizer")
    registry.function("normalize", "normcore_normalizer:normalize")
