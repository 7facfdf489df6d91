# What tensors.pyx takes of normalization.pyx: what needs no Python.

from .tiling cimport view_t

cdef bint map_channels(
    const view_t* x, const double* affine, const view_t* out, int num_threads
) noexcept nogil
cdef bint map_by_statistics(
    const view_t* x, const double* mean, const double* var, const double* gamma,
    const double* beta, double eps, const view_t* out, int num_threads,
) noexcept nogil
cdef bint normalize_batch(
    const view_t* x, const double* gamma, const double* beta, double eps, const view_t* out,
    int num_threads, double* states,
) noexcept nogil
cdef bint differentiate_batch(
    const view_t* dy, const view_t* x, const double* states, const double* gamma, double eps,
    bint training, const view_t* out, int num_threads, double* gradients,
) noexcept nogil
cdef bint normalize_groups(
    const view_t* x, Py_ssize_t per_group, const double* gamma, const double* beta,
    Py_ssize_t channels, double eps, const view_t* out, int num_threads, double* states,
) noexcept nogil
cdef bint differentiate_groups(
    const view_t* dy, const view_t* x, Py_ssize_t per_group, const double* states,
    const double* gamma, Py_ssize_t channels, double eps, const view_t* out, int num_threads,
    double* for_gamma, double* for_beta,
) noexcept nogil
cdef double sum_in_pairs(const double* values, Py_ssize_t number) noexcept nogil
cdef bint normalize_samples(
    const view_t* x, const view_t* gamma, const view_t* beta, const view_t* out, double eps,
    bint centered, int num_threads, double* states,
) noexcept nogil
cdef bint differentiate_samples(
    const view_t* dy, const view_t* x, const double* states, const view_t* gamma,
    const view_t* out, double eps, bint centered, int num_threads, double* gradients,
) noexcept nogil
