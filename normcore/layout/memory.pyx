# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: an array of another library, such as a tensor, is described by its pointer, sizes, strides
# and dtype, where a NumPy array of it would take longer to make than the kernel of a small batch.
# A type that has DLPack's table of C functions (version 1.3 of it, ``__dlpack_c_exchange_api__``)
# fills a structure of its own, without a call of Python's; the table is looked up once a type.
# Others are asked by the methods that PyTorch's tensors have had before. A description holds no
# reference: it is good while the array lives and is not resized.

from cpython.exc cimport PyErr_Clear
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t

__all__ = ["are_host_memory", "are_of_one_dtype", "is_batch"]

cdef enum:
    HOST = 1                # DLPack's number of the kind of device
    MAJOR = 1               # version of DLPack whose structures these are

# The structures of DLPack 1.3.
cdef struct version_t:
    uint32_t major
    uint32_t minor

cdef struct header_t:
    version_t version
    header_t* previous      # the table of an older version

cdef struct tensor_t:
    char* data
    int32_t device_kind
    int32_t device
    int32_t ndim
    uint8_t kind
    uint8_t bits
    uint16_t lanes
    int64_t* sizes
    int64_t* strides        # in elements; NULL for C order, in older versions
    uint64_t offset

# Return 0, or -1 with an exception set; the structure is good until control returns to Python.
ctypedef int (*look_t)(void* array, tensor_t* tensor) noexcept

cdef struct table_t:
    header_t header
    void* allocate
    void* export_managed
    void* import_managed
    look_t look             # may be NULL
    void* current_stream

# By type: the address of its function, or 0 where it has none.
cdef dict _known = {}


cdef uintptr_t _look_of(type kind):
    """Return the address of the function with which a type describes its arrays; 0 for none."""
    cdef header_t* header
    capsule = getattr(kind, "__dlpack_c_exchange_api__", None)
    if capsule is None:
        return 0
    header = <header_t*> PyCapsule_GetPointer(capsule, "dlpack_exchange_api")
    while header != NULL and header.version.major != MAJOR:
        header = header.previous
    return 0 if header == NULL else <uintptr_t> (<table_t*> header).look


cdef bint describe(object array, memory_t* memory) except -1:
    """Describe an array in host memory; False where that is not for here, such as on a device.

    An array without memory of its own, an empty one too, is not described.
    """
    cdef tensor_t tensor
    cdef look_t look
    cdef Py_ssize_t stride = 1
    cdef int axis
    known = _known.get(type(array))
    if known is None:
        known = _known[type(array)] = _look_of(type(array))
    look = <look_t> <uintptr_t> known
    if look == NULL:
        return _describe_by_methods(array, memory)
    if look(<void*> array, &tensor):
        PyErr_Clear()
        return False
    if (
        tensor.data == NULL or tensor.device_kind != HOST or tensor.ndim > MAX_AXES
        or tensor.lanes != 1 or tensor.bits % 8
    ):
        return False
    memory.data = tensor.data + tensor.offset
    memory.kind, memory.itemsize, memory.ndim = tensor.kind, tensor.bits // 8, tensor.ndim
    for axis in range(tensor.ndim - 1, -1, -1):
        memory.sizes[axis] = tensor.sizes[axis]
        if tensor.strides != NULL:
            stride = tensor.strides[axis]
        memory.strides[axis] = stride * memory.itemsize
        stride *= memory.sizes[axis]
    return True


# Kinds and sizes of dtypes by the names that libraries give them.
cdef dict _dtypes = {
    "float16": (FLOATING, 2), "float32": (FLOATING, 4), "float64": (FLOATING, 8),
    "bfloat16": (BFLOAT, 2), "int64": (SIGNED, 8), "int32": (SIGNED, 4),
}


cdef bint _describe_by_methods(object array, memory_t* memory) except -1:
    cdef int axis
    pointer = getattr(array, "data_ptr", None)
    if pointer is None or array.device.type != "cpu":
        return False
    dtype = _dtypes.get(str(array.dtype).rpartition(".")[2])
    try:
        address, sizes, strides = pointer(), tuple(array.shape), tuple(array.stride())
    except RuntimeError:  # it has no memory of its own
        return False
    if dtype is None or not address or len(sizes) > MAX_AXES:
        return False
    memory.data = <char*> <uintptr_t> address
    memory.kind, memory.itemsize = dtype
    memory.ndim = len(sizes)
    for axis in range(memory.ndim):
        memory.sizes[axis] = sizes[axis]
        memory.strides[axis] = <Py_ssize_t> strides[axis] * memory.itemsize
    return True


cdef bint is_c_contiguous(const memory_t* memory) noexcept nogil:
    """Whether elements follow one another in C order."""
    cdef Py_ssize_t below = memory.itemsize
    cdef int axis
    for axis in range(memory.ndim - 1, -1, -1):
        if memory.sizes[axis] != 1:
            if memory.strides[axis] != below:
                return False
            below *= memory.sizes[axis]
    return True


def are_host_memory(tuple arguments, frozenset kinds, frozenset others):
    """Whether arguments are arrays with elements in host memory that they tell of, or no arrays.

    Parameters
    ----------
    arguments : tuple
    kinds, others : frozenset
        The types that arrays may be of, and those of what is no array.
    """
    cdef memory_t memory
    for each in arguments:
        if type(each) in kinds:
            # Where signs are yet to change, memory has not what the elements are.
            if not describe(each, &memory) or each.is_neg():
                return False
        elif type(each) not in others:
            return False
    return True


def are_of_one_dtype(array, vector):
    """Whether arrays are in host memory and of one dtype of floating point; one may be None."""
    cdef memory_t memory, other
    if not describe(array, &memory) or memory.kind not in (FLOATING, BFLOAT):
        return False
    return vector is None or (
        describe(vector, &other) and other.kind == memory.kind
        and other.itemsize == memory.itemsize
    )


def is_batch(array, *vectors):
    """Whether an array in host memory is plainly a batch to normalize.

    Parameters
    ----------
    array : array
        Of floating point and at least two axes, with two values or more in each channel.
    *vectors : arrays of shape (C,), or None
        Of the same dtype.
    """
    cdef memory_t memory, other
    cdef Py_ssize_t values = 1
    cdef int axis
    if not describe(array, &memory) or memory.kind not in (FLOATING, BFLOAT) or memory.ndim < 2:
        return False
    for axis in range(memory.ndim):
        if axis != 1:
            values *= memory.sizes[axis]
    for each in vectors:
        if each is None:
            continue
        if not describe(each, &other) or other.ndim != 1 or other.sizes[0] != memory.sizes[1]:
            return False
        if other.kind != memory.kind or other.itemsize != memory.itemsize:
            return False
    return values > 1
