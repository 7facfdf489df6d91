# normcore.h as Cython sees it: ``from normcore.c_api cimport normcore_api, normcore_import``. An
# extension that does so has the folder of `normcore.get_include()` among its include_dirs.

from libc.stdint cimport int32_t, int64_t, uint32_t

cdef extern from "Python.h":  # before the header, which looks for it
    pass

cdef extern from "normcore.h" nogil:
    enum:
        NORMCORE_VERSION
        NORMCORE_OK
        NORMCORE_NULL_POINTER
        NORMCORE_BAD_DTYPE
        NORMCORE_BAD_SHAPE
        NORMCORE_BAD_STRIDES
        NORMCORE_TOO_LARGE
        NORMCORE_OVERLAP
        NORMCORE_BAD_VALUE
        NORMCORE_NO_MEMORY
        NORMCORE_OLD_LIBRARY
        NORMCORE_FLOAT16
        NORMCORE_FLOAT32
        NORMCORE_FLOAT64
        NORMCORE_BFLOAT16
        NORMCORE_ALL
        NORMCORE_MAX_AXES
        NORMCORE_STATE_ROWS
        NORMCORE_MESSAGE_SIZE

    ctypedef struct normcore_array:
        void* data
        const int64_t* sizes
        const int64_t* strides
        int32_t ndim
        int32_t dtype

    ctypedef struct normcore_call:
        int32_t num_threads
        char* message

    ctypedef struct normcore_api:
        size_t size
        uint32_t version
        int (*moments)(
            const normcore_array* x, int32_t axis, int32_t skipna, double* states,
            normcore_call* call,
        ) noexcept nogil
        int (*merge)(
            int64_t channels, double* states, const double* others, normcore_call* call
        ) noexcept nogil
        int (*summarize)(
            int64_t channels, const double* states, double ddof, double* count, double* mean,
            double* var, normcore_call* call,
        ) noexcept nogil
        int (*given)(
            int64_t channels, const double* mean, const double* var, double* states,
            normcore_call* call,
        ) noexcept nogil
        int (*rescale)(
            const normcore_array* x, int32_t axis, const normcore_array* center,
            const normcore_array* scale, const normcore_array* gamma, const normcore_array* beta,
            const normcore_array* y, normcore_call* call,
        ) noexcept nogil
        int (*batch_norm)(
            const normcore_array* x, int32_t axis, const normcore_array* gamma,
            const normcore_array* beta, double eps, const normcore_array* y, double* states,
            normcore_call* call,
        ) noexcept nogil
        int (*batch_norm_backward)(
            const normcore_array* dy, const normcore_array* x, int32_t axis, const double* states,
            int32_t training, const normcore_array* gamma, double eps, const normcore_array* dx,
            const normcore_array* dgamma, const normcore_array* dbeta, normcore_call* call,
        ) noexcept nogil
        int (*batch_norm_inference)(
            const normcore_array* x, int32_t axis, const normcore_array* mean,
            const normcore_array* var, const normcore_array* gamma, const normcore_array* beta,
            double eps, const normcore_array* y, normcore_call* call,
        ) noexcept nogil
        int (*row_norm)(
            const normcore_array* x, int32_t num_axes, int32_t centered,
            const normcore_array* gamma, const normcore_array* beta, double eps,
            const normcore_array* y, double* states, normcore_call* call,
        ) noexcept nogil
        int (*row_norm_backward)(
            const normcore_array* dy, const normcore_array* x, int32_t num_axes, int32_t centered,
            const double* states, const normcore_array* gamma, double eps,
            const normcore_array* dx, const normcore_array* dgamma, const normcore_array* dbeta,
            normcore_call* call,
        ) noexcept nogil
        int (*running)(
            int64_t channels, const double* states, double weight, double ddof, double* mean,
            double* var, normcore_call* call,
        ) noexcept nogil
        int (*weighted_moments)(
            const normcore_array* x, int32_t axis, const normcore_array* weights, int32_t skipna,
            double* states, normcore_call* call,
        ) noexcept nogil
        int (*group_norm)(
            const normcore_array* x, int32_t axis, int64_t num_groups,
            const normcore_array* gamma, const normcore_array* beta, double eps,
            const normcore_array* y, double* states, normcore_call* call,
        ) noexcept nogil
        int (*group_norm_backward)(
            const normcore_array* dy, const normcore_array* x, int32_t axis, int64_t num_groups,
            const double* states, const normcore_array* gamma, double eps,
            const normcore_array* dx, const normcore_array* dgamma, const normcore_array* dbeta,
            normcore_call* call,
        ) noexcept nogil

    int normcore_check(const normcore_api* api, normcore_call* call)

cdef extern from "normcore.h":
    const normcore_api* normcore_import() except NULL
