"""CUDA kernels without a device: run on the CPU, and compiled for GPUs."""
