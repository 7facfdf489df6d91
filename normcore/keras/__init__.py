"""normcore's layers for Keras 3: its arguments, weights and files, on its backends jax and torch.

On the numpy backend they infer. A model's weights load both ways between these layers and Keras's.
"""

try:
    from normcore.keras.batch_normalization import BatchNormalization
    from normcore.keras.input_normalization import Normalization
    from normcore.keras.sample_normalizations import (
        GroupNormalization,
        LayerNormalization,
        RMSNormalization,
    )
except ModuleNotFoundError as error:
    if error.name != "keras":
        raise
    raise ModuleNotFoundError(
        "normcore.keras needs Keras: pip install 'normcore-arrays[keras]'", name=error.name
    ) from error

__all__ = [
    "BatchNormalization",
    "GroupNormalization",
    "LayerNormalization",
    "Normalization",
    "RMSNormalization",
]
