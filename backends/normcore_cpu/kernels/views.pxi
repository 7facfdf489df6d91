# Design: what kernels know of an array: where it lies, its strides, and how its elements become
# float64 and are rounded back. An (N, C, S) array has positions, outer and inner ones, each with
# all channels; a plane (N, S) is shared by every channel. Between loading and storing every kernel
# computes in float64, so each dtype is written once, here.

cdef extern from "half.h" nogil:
    ctypedef struct half_t:
        uint16_t bits
    double half_to_double(half_t value)
    half_t double_to_half(double value)
    ctypedef struct bfloat16_t:
        uint16_t bits
    double bfloat16_to_double(bfloat16_t value)
    bfloat16_t double_to_bfloat16(double value)

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewLikeArray(cnp.ndarray like, cnp.NPY_ORDER order, cnp.dtype dtype, int subok)

ctypedef fused element:
    half_t
    bfloat16_t
    float
    double
    int8_t
    int16_t
    int32_t
    int64_t
    uint8_t
    uint16_t
    uint32_t
    uint64_t

ctypedef fused floating_element:
    half_t
    bfloat16_t
    float
    double


cdef inline double to_double(element value) noexcept nogil:
    if element is half_t:
        return half_to_double(value)
    elif element is bfloat16_t:
        return bfloat16_to_double(value)
    else:
        return <double> value


cdef inline void round_to(floating_element* target, double value) noexcept nogil:
    if floating_element is half_t:
        target[0] = double_to_half(value)
    elif floating_element is bfloat16_t:
        target[0] = double_to_bfloat16(value)
    else:
        target[0] = <floating_element> value


cdef void load_runs(
    const element* source, Py_ssize_t outer_stride, Py_ssize_t outer,
    Py_ssize_t inner_stride, Py_ssize_t inner, double* tile, Py_ssize_t row,
) noexcept nogil:
    """Convert `outer` runs of `inner` elements; run i starts at tile[i * row]."""
    cdef Py_ssize_t _, j
    cdef const char* run = <const char*> source
    cdef const element* contiguous
    for _ in range(outer):
        contiguous = <const element*> run
        if inner_stride != sizeof(element):
            for j in range(inner):
                tile[j] = to_double((<const element*> (run + j * inner_stride))[0])
        elif inner == LANES:  # a constant number of steps becomes straight vector code
            for j in range(LANES):
                tile[j] = to_double(contiguous[j])
        else:
            for j in range(inner):
                tile[j] = to_double(contiguous[j])
        run = run + outer_stride
        tile = tile + row


cdef void store_runs(
    floating_element* target, Py_ssize_t outer_stride, Py_ssize_t outer,
    Py_ssize_t inner_stride, Py_ssize_t inner, const double* tile, Py_ssize_t row,
) noexcept nogil:
    """Round `outer` runs of `inner` lanes into the target: the mirror of `load_runs`."""
    cdef Py_ssize_t _, j
    cdef char* run = <char*> target
    cdef floating_element* contiguous
    for _ in range(outer):
        contiguous = <floating_element*> run
        if inner_stride != sizeof(floating_element):
            for j in range(inner):
                round_to(<floating_element*> (run + j * inner_stride), tile[j])
        elif inner == LANES:
            for j in range(LANES):
                round_to(&contiguous[j], tile[j])
        else:
            for j in range(inner):
                round_to(&contiguous[j], tile[j])
        run = run + outer_stride
        tile = tile + row


cdef void finish_view(view_t* v) noexcept nogil:
    """Count the positions; take one long run for many of one position."""
    v.positions = v.runs * v.length
    if v.length == 1:
        v.length, v.stride = v.runs, v.run_stride
        v.runs, v.run_stride = 1, 0


cdef bint set_elements(view_t* v, char kind, Py_ssize_t itemsize) noexcept nogil:
    """Set how elements are read and written, by NumPy's letter of their kind; False if unknown."""
    v.itemsize = itemsize
    v.real = OTHER
    v.store = NULL
    if kind == b"f" and itemsize == sizeof(float):
        v.real = FLOAT
        v.load, v.store = <load_t> load_runs[float], <store_t> store_runs[float]
    elif kind == b"f" and itemsize == sizeof(double):
        v.real = DOUBLE
        v.load, v.store = <load_t> load_runs[double], <store_t> store_runs[double]
    elif kind == b"f" and itemsize == sizeof(half_t):
        v.load, v.store = <load_t> load_runs[half_t], <store_t> store_runs[half_t]
    elif kind == b"V" and v.itemsize == sizeof(bfloat16_t):  # NumPy has none of its own
        v.load, v.store = <load_t> load_runs[bfloat16_t], <store_t> store_runs[bfloat16_t]
    elif kind == b"b" or kind == b"u":
        v.load = unsigned_loader(itemsize)
    elif kind == b"i":
        v.load = signed_loader(itemsize)
    else:
        return False
    return True


cdef view_t view_of(object array, bint plane=False) except *:
    """Describe an (N, C, S) array, or a plane (N, S), which every channel shares."""
    cdef view_t v
    if type(array) is View:
        return (<View> array).view
    cdef cnp.ndarray nd = array
    cdef int last = nd.ndim - 1
    v.data = <char*> cnp.PyArray_DATA(nd)
    v.runs, v.run_stride = nd.shape[0], nd.strides[0]
    v.length, v.stride = nd.shape[last], nd.strides[last]
    v.channels, v.channel_stride = 1, 0
    if not plane:
        v.channels, v.channel_stride = nd.shape[1], nd.strides[1]
    finish_view(&v)
    if not set_elements(&v, nd.descr.kind, nd.itemsize):
        raise TypeError(f"no kernel for dtype {array.dtype}")
    return v


cdef view_t view_of_rows(object array) except *:
    """Describe rows, an array of shape (N, D)."""
    return view_of(array if type(array) is View else array[:, :, None])


cdef object result_like(object x):
    """Return a fresh array for what normalizes ``x``: floats keep their dtype, in ``x``'s order."""
    cdef cnp.ndarray like = x
    cdef cnp.dtype dtype = like.descr
    if dtype.kind != b"f" and dtype.kind != b"V":
        dtype = cnp.PyArray_DescrFromType(cnp.NPY_DOUBLE)
    Py_INCREF(dtype)  # which NumPy takes over
    return PyArray_NewLikeArray(like, cnp.NPY_KEEPORDER, dtype, False)


cdef load_t unsigned_loader(Py_ssize_t itemsize) noexcept nogil:
    if itemsize == 1:
        return <load_t> load_runs[uint8_t]
    if itemsize == 2:
        return <load_t> load_runs[uint16_t]
    if itemsize == 4:
        return <load_t> load_runs[uint32_t]
    return <load_t> load_runs[uint64_t]


cdef load_t signed_loader(Py_ssize_t itemsize) noexcept nogil:
    if itemsize == 1:
        return <load_t> load_runs[int8_t]
    if itemsize == 2:
        return <load_t> load_runs[int16_t]
    if itemsize == 4:
        return <load_t> load_runs[int32_t]
    return <load_t> load_runs[int64_t]
