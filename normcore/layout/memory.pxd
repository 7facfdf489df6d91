# Where the elements of an array lie, whatever its library.

cdef enum:
    MAX_AXES = 8

# DLPack's numbers of kinds of dtypes.
cdef enum:
    SIGNED = 0, UNSIGNED = 1, FLOATING = 2, BFLOAT = 4, BOOLEAN = 6

# Strides are in bytes.
cdef struct memory_t:
    char* data
    int kind
    int itemsize
    int ndim
    Py_ssize_t sizes[MAX_AXES]
    Py_ssize_t strides[MAX_AXES]

cdef bint describe(object array, memory_t* memory) except -1
cdef bint is_c_contiguous(const memory_t* memory) noexcept nogil
