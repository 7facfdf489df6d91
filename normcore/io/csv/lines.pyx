# cython: boundscheck=False, wraparound=False, cdivision=True
# distutils: language = c++
# Design: rows of numbers and of text become lines in one pass, without an array of their cells.

import numpy as np

from libc.stdint cimport int32_t
from libc.string cimport memcpy

__all__ = ["AVAILABLE", "rows_to_lines"]

cdef extern from "float_text.h" nogil:
    bint HAS_FLOAT_TEXT
    char* write_float(char* to, double value)

#: Whether the C++ library has what it takes.
AVAILABLE = bool(HAS_FLOAT_TEXT)

cdef enum:
    LINE_FEED = 10
    LONGEST_FLOAT = 32


cdef char* join(
    const double[:, ::1] values,
    const unsigned char[:, ::1] missing,
    const int32_t[::1] offsets,
    const char* text,
    const int32_t[::1] layout,
    char delimiter,
    char* to,
) noexcept nogil:
    cdef Py_ssize_t row, column, width = layout.shape[0]
    cdef Py_ssize_t cell = 0, size
    cdef bint checks = missing.shape[0] > 0
    for row in range(values.shape[0]):
        for column in range(width):
            if layout[column] < 0:
                size = offsets[cell + 1] - offsets[cell]
                memcpy(to, text + offsets[cell], size)
                to += size
                cell += 1
            elif not (checks and missing[row, layout[column]]):
                to = write_float(to, values[row, layout[column]])
            to[0] = delimiter
            to += 1
        (to - 1)[0] = LINE_FEED  # instead of the last delimiter
    return to


def rows_to_lines(
    const double[:, ::1] values not None,
    const unsigned char[:, ::1] missing not None,
    const int32_t[::1] offsets not None,
    const unsigned char[::1] text not None,
    const int32_t[::1] layout not None,
    unsigned char delimiter,
):
    """Return rows as lines of CSV.

    Parameters
    ----------
    values : array of shape (num_rows, num_numbers)
    missing : array of bytes, of the same shape or of no rows
        Not zero where nothing is to be written.
    offsets, text : arrays
        The other cells, row after row, as Arrow has them; they are written as they are.
    layout : array of shape (num_columns,)
        For each column of a line its place in ``values``, or -1 for the next other cell.
    delimiter : int
        A byte.

    Returns
    -------
    array of bytes
    """
    cdef Py_ssize_t rows = values.shape[0], others = offsets.shape[0] - 1
    cdef Py_ssize_t size = (
        rows * (layout.shape[0] + LONGEST_FLOAT * values.shape[1])
        + (offsets[others] - offsets[0])
    )
    lines = np.empty(size + 1, np.uint8)
    cdef unsigned char[::1] view = lines
    cdef char* start = <char*> &view[0]
    cdef const char* cells = <const char*> &text[0] if text.shape[0] else NULL
    cdef char* end
    with nogil:
        end = join(values, missing, offsets, cells, layout, <char> delimiter, start)
    return lines[: end - start]
