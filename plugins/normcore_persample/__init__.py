"""A normcore plugin: normalization of each sample by itself, by layers, groups and instances.

Layer norm: J. L. Ba, J. R. Kiros and G. E. Hinton, arXiv 1607.06450 (2016). Group norm: Y. Wu and
K. He, ECCV 2018. Instance norm: D. Ulyanov, A. Vedaldi and V. Lempitsky, arXiv 1607.08022 (2016).
RMS norm: B. Zhang and R. Sennrich, NeurIPS 2019.
"""

from normcore_persample.group_layers import GroupNorm, InstanceNorm
from normcore_persample.groups import (
    group_norm,
    group_norm_backward,
    instance_norm,
    instance_norm_backward,
)
from normcore_persample.row_layers import LayerNorm, RMSNorm
from normcore_persample.rows import (
    layer_norm,
    layer_norm_backward,
    rms_norm,
    rms_norm_backward,
)

__all__ = [
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "RMSNorm",
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "rms_norm",
    "rms_norm_backward",
]
