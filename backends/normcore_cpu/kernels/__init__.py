"""The kernels; setup.py builds the modules of this package once for each instruction set."""
