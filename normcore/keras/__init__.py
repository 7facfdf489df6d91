"""normcore's layers for Keras 3: its arguments, weights and files, on its backends jax and torch.

On the numpy backend they infer. A model's weights load both ways between these layers and Keras's.
"""

from normcore.keras.needed_backend import needed_backend
from normcore.package.needed_library import needed

with needed("normcore.keras needs Keras", "keras", "keras"), needed_backend():
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
