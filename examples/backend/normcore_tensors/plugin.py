"""What this distribution offers to normcore; PyTorch is imported when the backend is used."""

import normcore as nc


@nc.hookimpl
def normcore_register(registry):
    """Register the backend, for those who name it: backend="tensors"."""
    registry.backend("tensors", "normcore_tensors.backend:TensorBackend", arrays=["torch.Tensor"])
