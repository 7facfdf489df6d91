"""Normalization of each sample by itself: layer, RMS, group and instance norm.

Layer norm: J. L. Ba, J. R. Kiros and G. E. Hinton, arXiv 1607.06450 (2016). Group norm: Y. Wu and
K. He, ECCV 2018. Instance norm: D. Ulyanov, A. Vedaldi and V. Lempitsky, arXiv 1607.08022 (2016).
RMS norm: B. Zhang and R. Sennrich, NeurIPS 2019.
"""

from normcore.layernorm.group_instance import (
    group_norm,
    group_norm_backward,
    instance_norm,
    instance_norm_backward,
)
from normcore.layernorm.group_instance_layers import GroupNorm, InstanceNorm
from normcore.layernorm.layer_rms import (
    layer_norm,
    layer_norm_backward,
    rms_norm,
    rms_norm_backward,
)
from normcore.layernorm.layer_rms_layers import LayerNorm, RMSNorm

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
