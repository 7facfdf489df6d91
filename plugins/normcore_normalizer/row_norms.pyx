# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: one read and one write of memory. A row is read for its norm and, from the cache that it
# is in then, once more to be divided; a result beyond the caches is written past them. Rows are
# independent, so callers cut them up as they like. A sum is that of blocks of 128 values in 16
# lanes, merged without loss: its error does not grow with the row. Where squares would leave the
# range of float64, the row is scaled by a power of two, which is exact.
"""Rows divided by their norms, compiled."""

cimport numpy as cnp
from libc.stdint cimport int64_t, uintptr_t

cnp.import_array()

__all__ = ["divide_rows", "divide_sparse_rows"]

cdef extern from "stdbool.h" nogil:
    ctypedef bint c_bool "bool"

cdef extern from "row_norms.h" nogil:
    enum norm_kind:
        MAX, L1, L2
    Py_ssize_t normalize_rows_double(
        const char* x, Py_ssize_t x_stride, char* y, Py_ssize_t y_stride, const int64_t* starts,
        Py_ssize_t rows, Py_ssize_t columns, norm_kind kind, c_bool nontemporal, double* norms
    )
    Py_ssize_t normalize_rows_float(
        const char* x, Py_ssize_t x_stride, char* y, Py_ssize_t y_stride, const int64_t* starts,
        Py_ssize_t rows, Py_ssize_t columns, norm_kind kind, c_bool nontemporal, double* norms
    )
    void fence()

# Bytes of a result that no cache holds until it is read.
cdef Py_ssize_t NONTEMPORAL_BYTES = 1 << 21

cdef norm_kind kind_of(str norm) except *:
    if norm == "l2":
        return L2
    return L1 if norm == "l1" else MAX


cdef Py_ssize_t normalize(
    cnp.ndarray x, Py_ssize_t x_stride, cnp.ndarray y, Py_ssize_t y_stride, const int64_t* starts,
    Py_ssize_t rows, Py_ssize_t columns, str norm, bint nontemporal, cnp.ndarray norms,
):
    cdef const char* source = <const char*> cnp.PyArray_DATA(x)
    cdef char* target = <char*> cnp.PyArray_DATA(y)
    cdef double* found = NULL if norms is None else <double*> cnp.PyArray_DATA(norms)
    cdef norm_kind kind = kind_of(norm)
    cdef bint single = x.itemsize == 4
    cdef Py_ssize_t first
    with nogil:
        if single:
            first = normalize_rows_float(
                source, x_stride, target, y_stride, starts, rows, columns, kind, nontemporal, found
            )
        else:
            first = normalize_rows_double(
                source, x_stride, target, y_stride, starts, rows, columns, kind, nontemporal, found
            )
        if nontemporal:
            fence()
    return first


def divide_rows(cnp.ndarray x, cnp.ndarray out, str norm, cnp.ndarray norms=None):
    """Write each row divided by its norm; return the first that is not finite, or -1.

    Parameters
    ----------
    x, out : arrays of shape (N, D), both float64 or both float32, elements of a row side by side
        ``out`` may be ``x`` itself.
    norm : {"l1", "l2", "max"}
    norms : float64 array of shape (N,), contiguous, optional
        Written to; 1 for a row of zeros.
    """
    cdef Py_ssize_t columns = x.shape[1]
    cdef bint nontemporal = (
        x.shape[0] * columns * x.itemsize >= NONTEMPORAL_BYTES
        and cnp.PyArray_DATA(x) != cnp.PyArray_DATA(out) and columns % 16 == 0
        and (<uintptr_t> cnp.PyArray_DATA(out) | <uintptr_t> out.strides[0]) % 16 == 0
    )
    return normalize(
        x, x.strides[0], out, out.strides[0], NULL, x.shape[0], columns, norm, nontemporal, norms
    )


def divide_sparse_rows(
    cnp.ndarray data, const int64_t[::1] starts, cnp.ndarray out, str norm, cnp.ndarray norms=None
):
    """Do what :func:`divide_rows` does, for the stored values of a matrix in CSR format.

    Parameters
    ----------
    data, out : arrays of shape (K,), both float64 or both float32, contiguous
        ``out`` may be ``data`` itself.
    starts : int64 array of shape (N + 1,)
        Where the rows begin in ``data``, and the end of the last one.
    norm : {"l1", "l2", "max"}
    norms : float64 array of shape (N,), contiguous, optional
        Written to; 1 for a row of zeros.
    """
    return normalize(data, 0, out, 0, &starts[0], starts.shape[0] - 1, 0, norm, False, norms)
