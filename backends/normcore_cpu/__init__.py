"""The CPU backend of normcore: Cython kernels over tiles of 16 float64 lanes."""
