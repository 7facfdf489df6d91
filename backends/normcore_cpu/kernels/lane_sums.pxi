# Design: sums of lanes in two parts, the second one what rounding took from the first: two_sum
# (Knuth, TAOCP 2, 4.2.2) of whole vectors, for the backward kernels.



cdef inline void add_sum(double* hi, double* lo, lanes_t more) noexcept nogil:
    """Add to WIDTH double-double sums."""
    cdef lanes_t before = load_double(hi)
    cdef lanes_t total = before + more
    cdef lanes_t t = total - before
    store_double(lo, load_double(lo) + ((before - (total - t)) + (more - t)))
    store_double(hi, total)
