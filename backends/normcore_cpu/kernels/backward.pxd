# Design: what the backward kernels know of a channel; the gate is the forward map under a ReLU.

cdef enum:
    MEAN, A, B, D, GATE, VECTORS = 8
