from normcore.statistics cimport moments_t

cdef void tile_moments(
    double* x, double* w, Py_ssize_t rows, Py_ssize_t lanes, bint skipna, moments_t* states
) noexcept nogil
