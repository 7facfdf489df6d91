"""A backend of normcore for the tensors of PyTorch."""
