"""The CuPy backend of normcore: CUDA kernels that NVRTC compiles on first use."""
