"""What every backend promises, run on this one."""

import numpy as np
import torch
from normcore_tensors.backend import TensorBackend

from normcore.testing import BackendConformance


class TestTensors(BackendConformance):
    backend = TensorBackend()

    def to_native(self, array):
        """Return a tensor that lies in memory as the array does, where a tensor can."""
        strides = [max(0, stride // array.itemsize) for stride in array.strides]
        tensor = torch.from_numpy(np.array(array))
        if 0 in array.shape or 0 in strides:
            return tensor
        size = sum((n - 1) * stride for n, stride in zip(array.shape, strides, strict=True)) + 1
        return torch.empty(size, dtype=tensor.dtype).as_strided(array.shape, strides).copy_(tensor)
