"""What this distribution offers to normcore."""

import normcore

FUNCTIONS = (
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "rms_norm",
    "rms_norm_backward",
)
LAYERS = ("GroupNorm", "InstanceNorm", "LayerNorm", "RMSNorm")


@normcore.hookimpl
def normcore_register(registry: normcore.Registry) -> None:
    """Register the functions, as attributes of ``normcore.functional``, and the layers."""
    for name in FUNCTIONS:
        registry.function(f"functional.{name}", f"normcore_persample:{name}")
    for name in LAYERS:
        registry.function(name, f"normcore_persample:{name}")
