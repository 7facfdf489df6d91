"""normcore's layers for Keras 3: its arguments, weights and files, on its backends jax and torch.

On the numpy backend they infer. A model's weights load both ways between these layers and Keras's.
"""

from normcore.package.needed_library import needed

# Keras takes TensorFlow unless it is told.
_BACKEND = (
    "Keras's backend {} is not installed; KERAS_BACKEND=torch, or jax, before Keras is imported "
    "chooses another"
)
with (
    needed("normcore.keras needs Keras", "keras", "keras"),
    needed(_BACKEND, "torch", "jax", "tensorflow", "torch"),
):
    from normcore.keras.batch_normalization import BatchNormalization
    from normcore.keras.input_normalization import Normalization
    from normcore.keras.sample_normalizations import (
        GroupNormalization,
        LayerNormalization,
        RMSNormalization,
    )

__all__ = [
    "BatchNormalization",
    "GroupNormalization",
    "LayerNormalization",
    "Normalization",
    "RMSNormalization",
]
