"""What this distribution offers to normcore."""

import normcore


@normcore.hookimpl
def normcore_register(registry: normcore.Registry) -> None:
    """Register the functions."""
    for name in ("scale", "minmax_scale", "maxabs_scale", "robust_scale"):
        registry.function(name, f"normcore_scale:{name}")
