# Sorting of float64 without NaN, for the sketch of quantiles.
# Design: values lie in rows of 16 lanes. A network sorts all lanes at once, which compiles to
# vector minima and maxima and knows no branch to mispredict; the 16 runs are then laid out one
# after another and merged in pairs. Pairs of one length merge from both ends at once, so that two
# chains of comparisons hide each other's latency and no bound is checked. The network is Batcher's
# odd-even merge sort (K. E. Batcher, "Sorting networks and their applications", 1968).

from libc.math cimport INFINITY
from libc.string cimport memcpy

cdef extern from *:
    """
    #define SORT_LANES 16
    #define SORT_TILE 1024

    /* Puts the smaller of each pair of values into `low` and the larger into `high`. */
    static inline void exchange(
        double* CYTHON_RESTRICT low, double* CYTHON_RESTRICT high, Py_ssize_t size)
    {
        for (Py_ssize_t i = 0; i < size; i++) {
            double a = low[i], b = high[i];
            low[i] = a < b ? a : b;
            high[i] = b < a ? a : b;
        }
    }
    """
    enum:
        SORT_LANES
        SORT_TILE       # values of the largest network

    void exchange(double* low, double* high, Py_ssize_t size) noexcept nogil


cdef inline void sort_lanes(double* rows, int num_rows) noexcept nogil:
    """Sort each lane; the number of rows is a power of two."""
    cdef int run = 1, apart, first
    while run < num_rows:
        apart = run
        while apart:
            first = apart % run
            while first + apart < num_rows:
                if first & -(2 * run) == (first + apart) & -(2 * run):  # one pair of runs
                    exchange(
                        rows + first * SORT_LANES, rows + (first + apart) * SORT_LANES,
                        apart * SORT_LANES,
                    )
                first += 2 * apart
            apart //= 2
        run *= 2


cdef inline void lanes_to_runs(const double* rows, int num_rows, double* runs) noexcept nogil:
    cdef int lane, row
    for lane in range(SORT_LANES):
        for row in range(num_rows):
            runs[lane * num_rows + row] = rows[row * SORT_LANES + lane]


cdef inline void merge_pair(const double* a, Py_ssize_t length, double* out) noexcept nogil:
    """Merge two sorted runs of one length that follow one another."""
    cdef const double* b = a + length
    cdef const double* a_end = a + length - 1
    cdef const double* b_end = a + 2 * length - 1
    cdef double* end = out + 2 * length - 1
    cdef Py_ssize_t i
    cdef bint from_b, from_a
    for i in range(length):
        from_b = b[0] < a[0]
        out[i] = b[0] if from_b else a[0]
        b += from_b
        a += not from_b
        from_a = b_end[0] < a_end[0]
        end[-i] = a_end[0] if from_a else b_end[0]
        a_end -= from_a
        b_end -= not from_a


cdef inline void merge(
    const double* a, Py_ssize_t size, const double* b, Py_ssize_t other, double* out
) noexcept nogil:
    """Merge two sorted arrays; ``out`` may end where ``b`` does."""
    cdef const double* a_end = a + size
    cdef const double* b_end = b + other
    cdef bint from_b
    while a < a_end and b < b_end:
        from_b = b[0] < a[0]
        out[0] = b[0] if from_b else a[0]
        out += 1
        b += from_b
        a += not from_b
    while a < a_end:
        out[0] = a[0]
        out += 1
        a += 1
    if out != b:
        while b < b_end:
            out[0] = b[0]
            out += 1
            b += 1


cdef inline Py_ssize_t padded(Py_ssize_t size) noexcept nogil:
    """Return the room that sorting needs: whole networks."""
    cdef Py_ssize_t room = SORT_LANES
    while room < size and room < SORT_TILE:
        room *= 2
    return (size + room - 1) // room * room


cdef inline void sort_runs(
    double* values, Py_ssize_t size, Py_ssize_t length, double* spare
) noexcept nogil:
    """Sort each run of some length, a power of two from 64 on or at least ``size``.

    ``values`` and ``spare`` have room for ``padded(size)``.
    """
    cdef Py_ssize_t room = padded(size), tile, start, run, rest
    cdef int num_rows = <int> (min(room, <Py_ssize_t> SORT_TILE) // SORT_LANES)
    cdef double* source = spare
    cdef double* target = values
    for start in range(size, room):
        values[start] = INFINITY
    tile = 0
    while tile < room:
        sort_lanes(values + tile, num_rows)
        lanes_to_runs(values + tile, num_rows, spare + tile)
        tile += num_rows * SORT_LANES
    run = num_rows
    while run < min(length, room):
        start = 0
        while start + 2 * run <= room:
            merge_pair(source + start, run, target + start)
            start += 2 * run
        rest = room - start
        if rest > run:
            merge(source + start, run, source + start + run, rest - run, target + start)
        elif rest:
            memcpy(target + start, source + start, rest * sizeof(double))
        source, target = target, source
        run *= 2
    if source != values:
        memcpy(values, source, room * sizeof(double))
