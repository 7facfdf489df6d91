# Sorting of float64 without NaN, for the sketch of quantiles.
# Design: values lie in rows of 4 to 16 lanes. A network sorts all lanes at once, which compiles to
# vector minima and maxima and knows no branch to mispredict; each lane is a run then, of up to 256
# values. Runs are laid out one after another, and longer ones merged in pairs. Pairs of one length
# merge from both ends at once, so that two chains of comparisons hide each other's latency and no
# bound is checked. The network is Batcher's odd-even merge sort (K. E. Batcher,
# "Sorting networks and their applications", 1968).

from libc.math cimport INFINITY
from libc.string cimport memcpy

cdef extern from *:
    """
    #if defined(__GNUC__) && defined(__x86_64__)
    #define SORT_INLINE static inline __attribute__((always_inline))
    #else
    #define SORT_INLINE static inline
    #endif

    /* Puts the smaller of each pair of values into `low` and the larger into `high`. */
    SORT_INLINE void exchange(
        double* CYTHON_RESTRICT low, double* CYTHON_RESTRICT high, Py_ssize_t size)
    {
        for (Py_ssize_t i = 0; i < size; i++) {
            double a = low[i], b = high[i];
            low[i] = a < b ? a : b;
            high[i] = b < a ? a : b;
        }
    }

    SORT_INLINE void sort_lanes_here(double* rows, int num_rows, int num_lanes)
    {
        for (int run = 1; run < num_rows; run *= 2)
            for (int apart = run; apart; apart /= 2)
                for (int first = apart % run; first + apart < num_rows; first += 2 * apart)
                    if (((first ^ (first + apart)) & -(2 * run)) == 0) /* in one pair of runs */
                        exchange(rows + first * num_lanes, rows + (first + apart) * num_lanes,
                            (Py_ssize_t)apart * num_lanes);
    }

    static void sort_lanes_in_any(double* rows, int num_rows, int num_lanes)
    {
        sort_lanes_here(rows, num_rows, num_lanes);
    }

    /* The same bits in wider vectors. */
    #if defined(__GNUC__) && defined(__x86_64__)
    __attribute__((target("avx2")))
    static void sort_lanes_in_avx2(double* rows, int num_rows, int num_lanes)
    {
        sort_lanes_here(rows, num_rows, num_lanes);
    }
    #define SORT_WIDE __builtin_cpu_supports("avx2")
    #else
    #define sort_lanes_in_avx2 sort_lanes_in_any
    #define SORT_WIDE 0
    #endif

    /* Sorts each lane; the number of rows is a power of two. */
    static inline void sort_lanes(double* rows, int num_rows, int num_lanes)
    {
        if (SORT_WIDE)
            sort_lanes_in_avx2(rows, num_rows, num_lanes);
        else
            sort_lanes_in_any(rows, num_rows, num_lanes);
    }
    """
    void sort_lanes(double* rows, int num_rows, int num_lanes) noexcept nogil

cdef enum:
    LEAST_LANES = 4     # a vector
    LEAST_TILE = 16
    SORT_TILE = 1024    # values that are sorted by one network, if there are as many
    MOST_ROWS = 256


cdef inline void lanes_to_runs(
    const double* rows, int num_rows, int num_lanes, double* runs
) noexcept nogil:
    cdef int lane, row
    for lane in range(num_lanes):
        for row in range(num_rows):
            runs[lane * num_rows + row] = rows[row * num_lanes + lane]


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
    cdef Py_ssize_t room = LEAST_TILE
    while room < size and room < SORT_TILE:
        room *= 2
    return (size + room - 1) // room * room


cdef inline void sort_runs(
    double* values, Py_ssize_t size, Py_ssize_t length, double* spare
) noexcept nogil:
    """Sort each run of some length, a power of two from 64 on or at least ``size``.

    ``values`` and ``spare`` have room for ``padded(size)``.
    """
    cdef Py_ssize_t room = padded(size), start, run, rest
    cdef int tile = <int> min(room, <Py_ssize_t> SORT_TILE), num_rows = tile // LEAST_TILE
    cdef double* source = spare
    cdef double* target = values
    for start in range(size, room):
        values[start] = INFINITY
    if length >= size:
        length = room  # one run, with what fills it up
    while num_rows < min(length, <Py_ssize_t> MOST_ROWS) and num_rows * LEAST_LANES < tile:
        num_rows *= 2
    start = 0
    while start < room:
        sort_lanes(values + start, num_rows, tile // num_rows)
        lanes_to_runs(values + start, num_rows, tile // num_rows, spare + start)
        start += tile
    run = num_rows
    while run < length:
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
