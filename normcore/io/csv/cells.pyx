# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: the cells of a text are the text without its delimiters, quotes and ends of lines, and
# where each begins; that is what an Arrow array is made of. Text without quotes takes a pass that
# looks at eight bytes at a time; any other goes byte by byte through what `end_of_quotes` and the
# two loops that call it say a row is. Numbers are not known here: pyarrow reads these.

import numpy as np

from libc.stdint cimport int32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

__all__ = ["end_of_rows", "split_cells", "split_quoted_cells"]

cdef enum:
    LINE_FEED = 10
    CARRIAGE_RETURN = 13

cdef uint64_t ONES = 0x0101010101010101
cdef uint64_t HIGH = 0x8080808080808080


cdef struct text_t:
    const unsigned char* data
    Py_ssize_t size
    int delimiter
    int quote  # -1 if there is none
    const unsigned char* comment
    Py_ssize_t comment_size


cdef inline bint ends_line(int byte) noexcept nogil:
    return byte == LINE_FEED or byte == CARRIAGE_RETURN


cdef inline Py_ssize_t after_end(text_t* text, Py_ssize_t i) noexcept nogil:
    """Return what follows the end of a line, which may have two bytes."""
    if text.data[i] == CARRIAGE_RETURN and i + 1 < text.size and text.data[i + 1] == LINE_FEED:
        return i + 2
    return i + 1


cdef inline bint is_comment(text_t* text, Py_ssize_t i) noexcept nogil:
    """Whether the line that begins here is to be left out."""
    return (
        text.comment_size > 0
        and text.size - i >= text.comment_size
        and memcmp(text.data + i, text.comment, text.comment_size) == 0
    )


cdef inline Py_ssize_t end_of_line(text_t* text, Py_ssize_t i) noexcept nogil:
    while i < text.size and not ends_line(text.data[i]):
        i += 1
    return i


cdef inline Py_ssize_t end_of_quotes(text_t* text, Py_ssize_t i) noexcept nogil:
    """Return where the next quote is, of any kind; the end of the text if there is none."""
    cdef const void* found = memchr(text.data + i, text.quote, text.size - i)
    return <const unsigned char*> found - text.data if found else text.size


cdef Py_ssize_t last_row(text_t* text, bint first) noexcept nogil:
    """Return where the last whole row ends, or the first one; 0 if there is none."""
    cdef Py_ssize_t i = 0, end = 0
    cdef bint begins = True, blank
    while i < text.size:
        blank = begins and (ends_line(text.data[i]) or is_comment(text, i))
        if blank:
            i = end_of_line(text, i)
        else:
            if text.data[i] == text.quote:
                i = end_of_quotes(text, i + 1)
                while i + 1 < text.size and text.data[i + 1] == text.quote:
                    i = end_of_quotes(text, i + 2)
                i += 1
            while i < text.size and text.data[i] != text.delimiter and not ends_line(text.data[i]):
                i += 1
        if i >= text.size:
            break
        begins = ends_line(text.data[i])
        if not begins:
            i += 1
            continue
        if text.data[i] == CARRIAGE_RETURN and i + 1 == text.size and not first:
            break  # a line feed may follow
        i = after_end(text, i)
        if first and not blank:
            return i
        end = i
    return 0 if first else end


cdef text_t view(
    const unsigned char[::1] data, int delimiter, int quote, const unsigned char[::1] comment
) noexcept:
    cdef text_t text
    text.data = &data[0] if data.shape[0] else NULL
    text.size = data.shape[0]
    text.delimiter, text.quote = delimiter, quote
    text.comment = &comment[0] if comment.shape[0] else NULL
    text.comment_size = comment.shape[0]
    return text


def end_of_rows(
    const unsigned char[::1] data not None,
    int delimiter,
    int quote,
    const unsigned char[::1] comment not None,
    bint first=False,
):
    """Return where the last whole row of a text ends that begins with a row; 0 if none does.

    A carriage return at the end ends no row, since a line feed may follow it.

    Parameters
    ----------
    data : bytes
    delimiter, quote : int
        Bytes; -1 if there is no quote.
    comment : bytes
        What begins lines that are left out; empty if nothing does.
    first : bool
        Whether to return where the first row ends that is neither blank nor left out, of a text
        that nothing follows.
    """
    cdef text_t text = view(data, delimiter, quote, comment)
    cdef Py_ssize_t end
    with nogil:
        end = last_row(&text, first)
    return end


cdef Py_ssize_t count(text_t* text) noexcept nogil:
    cdef Py_ssize_t i, found = 0
    for i in range(text.size):
        found += (text.data[i] == text.delimiter) | ends_line(text.data[i])
    return found


cdef inline uint64_t has_zero(uint64_t word) noexcept nogil:
    """Not zero if and only if one of the bytes is."""
    return (word - ONES) & ~word & HIGH


cdef bint split(
    text_t* text, Py_ssize_t width, unsigned char* out, int32_t* offsets
) noexcept nogil:
    cdef uint64_t word
    cdef uint64_t delimiters = ONES * <uint64_t> text.delimiter
    cdef uint64_t feeds = ONES * LINE_FEED
    cdef Py_ssize_t i = 0, to = 0, cell = 0, column = 0
    cdef int byte
    offsets[0] = 0
    while i < text.size:
        while i + 8 <= text.size:
            memcpy(&word, text.data + i, 8)
            if has_zero(word ^ delimiters) | has_zero(word ^ feeds):
                break
            memcpy(out + to, &word, 8)
            to += 8
            i += 8
        while i < text.size:
            byte = text.data[i]
            i += 1
            if byte == text.delimiter:
                column += 1
                if column == width:
                    return False
                break
            if byte == LINE_FEED:
                column += 1
                if column != width:
                    return False
                column = 0
                break
            out[to] = <unsigned char> byte
            to += 1
        cell += 1
        offsets[cell] = <int32_t> to
    return column == 0


def split_cells(const unsigned char[::1] data not None, int delimiter, Py_ssize_t width):
    """Return the cells of lines without quotes as text and offsets, as Arrow has them.

    Parameters
    ----------
    data : bytes
        Less than 2 GiB, ending with a line feed.
    delimiter : int
        A byte.
    width : int
        The number of cells that each line must have.

    Returns
    -------
    tuple of arrays, or None
        The text and, one more than there are cells, its offsets; None if a line has another number
        of cells.
    """
    cdef text_t text = view(data, delimiter, -1, b"")
    cdef Py_ssize_t cells
    cdef bint good
    with nogil:
        cells = count(&text)
    out = np.empty(text.size - cells + 1, np.uint8)  # an empty array has no place
    offsets = np.empty(cells + 1, np.int32)
    cdef unsigned char[::1] out_view = out
    cdef int32_t[::1] offsets_view = offsets
    with nogil:
        good = split(&text, width, &out_view[0], &offsets_view[0])
    return (out, offsets) if good else None


cdef Py_ssize_t split_quoted(
    text_t* text,
    Py_ssize_t width,
    unsigned char* out,
    int32_t* offsets,
    unsigned char* present,
    Py_ssize_t* lines,
) noexcept nogil:
    """Return the number of cells, -1 if a row has not ``width`` of them."""
    cdef Py_ssize_t i = 0, to = 0, cell = 0, column = 0, start, end
    cdef bint quoted
    offsets[0] = 0
    while i < text.size:
        if column == 0 and (ends_line(text.data[i]) or is_comment(text, i)):
            i = after_end(text, end_of_line(text, i))
            lines[0] += 1
            continue
        quoted = text.data[i] == text.quote
        if quoted:
            i += 1
            while True:
                end = end_of_quotes(text, i)
                for start in range(i, end):
                    if text.data[start] == LINE_FEED:
                        lines[0] += 1
                    elif text.data[start] == CARRIAGE_RETURN:
                        lines[0] += start + 1 < text.size and text.data[start + 1] != LINE_FEED
                memcpy(out + to, text.data + i, end - i)
                to += end - i
                i = end + 1
                if i >= text.size or text.data[i] != text.quote:
                    break
                out[to] = <unsigned char> text.quote
                to += 1
                i += 1
        while i < text.size and text.data[i] != text.delimiter and not ends_line(text.data[i]):
            out[to] = text.data[i]
            to += 1
            i += 1
        if i >= text.size:
            return -1  # the last row does not end
        present[cell] = quoted or to != offsets[cell]
        cell += 1
        offsets[cell] = <int32_t> to
        column += 1
        if text.data[i] == text.delimiter:
            if column == width:
                return -1
            i += 1
        else:
            if column != width:
                return -1
            column = 0
            lines[0] += 1
            i = after_end(text, i)
    return cell


def split_quoted_cells(
    const unsigned char[::1] data not None,
    int delimiter,
    int quote,
    const unsigned char[::1] comment not None,
    Py_ssize_t width,
):
    """Return the cells of whole rows of any kind, and how many lines these take.

    Parameters
    ----------
    data : bytes
        Less than 2 GiB, ending with the end of a line.
    delimiter, quote : int
        Bytes; -1 if there is no quote.
    comment : bytes
        What begins lines that are left out; empty if nothing does.
    width : int
        The number of cells that each row must have.

    Returns
    -------
    tuple, or None
        The text; its offsets; one byte for each cell, zero if it is nothing without quotes; and
        the number of lines. None if a row has another number of cells.
    """
    cdef text_t text = view(data, delimiter, quote, comment)
    cdef Py_ssize_t cells, lines = 0
    with nogil:
        cells = count(&text)
    out = np.empty(text.size + 1, np.uint8)
    offsets = np.empty(cells + 1, np.int32)
    present = np.empty(cells + 1, np.uint8)
    cdef unsigned char[::1] out_view = out
    cdef int32_t[::1] offsets_view = offsets
    cdef unsigned char[::1] present_view = present
    with nogil:
        cells = split_quoted(
            &text, width, &out_view[0], &offsets_view[0], &present_view[0], &lines
        )
    if cells < 0:
        return None
    return out[: offsets[cells]], offsets[: cells + 1], present[:cells], lines
