# Design: the arrays of a call of normcore.h, described and checked before anything is written:
# pointers, dtypes, sizes that fit memory, alignment, and that no result shares memory with another
# array or with itself. A check that fails leaves its status and a message with the operands, which
# all later checks pass on, so that a function asks once. Names are those of the header.

cdef enum:
    # What a call does with an array: a result may be one of those that are mapped, in whole.
    READ, MAPPED, WRITTEN, RESULT
    MOST_OPERANDS = 10

# More elements, which only broadcast arrays have, would overflow the sizes of what kernels keep.
cdef int64_t MOST_ELEMENTS = <int64_t> 1 << 48
cdef int64_t MOST_BYTES = <int64_t> 1 << 62

cdef double ONE = 1.0
cdef double ZERO = 0.0

cdef struct operand_t:
    memory_t memory
    const char* name
    int role
    Py_ssize_t elements

cdef struct operands_t:
    normcore_call* call
    int status
    int count
    operand_t each[MOST_OPERANDS]


cdef void begin(operands_t* of, normcore_call* call) noexcept nogil:
    of.call, of.status, of.count = call, NORMCORE_OK, 0
    if call != NULL:
        call.message[0] = 0
        if call.num_threads < 0:
            refuse(of, NORMCORE_BAD_VALUE, "%s is %lld", b"num_threads", call.num_threads)


cdef int threads_of(const operands_t* of) noexcept nogil:
    return num_threads_for(0 if of.call == NULL else of.call.num_threads)


cdef void refuse(
    operands_t* of, int status, const char* message, const char* name, int64_t first=0,
    int64_t second=0,
) noexcept nogil:
    """Note the first fault of a call; the message has places for a name and two numbers."""
    if of.status != NORMCORE_OK:
        return
    of.status = status
    if of.call != NULL:
        snprintf(
            of.call.message, NORMCORE_MESSAGE_SIZE, message, name, <long long> first,
            <long long> second,
        )


cdef bint set_kind(
    operands_t* of, const char* name, int32_t dtype, memory_t* memory
) noexcept nogil:
    memory.kind = BFLOAT if dtype == NORMCORE_BFLOAT16 else FLOATING
    if dtype == NORMCORE_FLOAT64:
        memory.itemsize = 8
    elif dtype == NORMCORE_FLOAT32:
        memory.itemsize = 4
    elif dtype == NORMCORE_FLOAT16 or dtype == NORMCORE_BFLOAT16:
        memory.itemsize = 2
    else:
        refuse(
            of, NORMCORE_BAD_DTYPE,
            "%s has dtype code %lld; the codes of float16, float32, float64 and bfloat16 are 1 to "
            "%lld", name, dtype, NORMCORE_BFLOAT16,
        )
        return False
    return True


cdef bint set_sizes(
    operands_t* of, const normcore_array* array, operand_t* operand
) noexcept nogil:
    """Set sizes and strides, and the number of elements; False with a fault noted."""
    cdef memory_t* memory = &operand.memory
    cdef const char* name = operand.name
    cdef int64_t size, elements = 1, reach = memory.itemsize, below = memory.itemsize, stride
    cdef int axis
    if not 0 <= array.ndim <= NORMCORE_MAX_AXES:
        refuse(
            of, NORMCORE_BAD_SHAPE, "%s has %lld axes; there may be 0 to %lld", name, array.ndim,
            NORMCORE_MAX_AXES,
        )
        return False
    if array.ndim and array.sizes == NULL:
        refuse(of, NORMCORE_NULL_POINTER, "the sizes of %s are a NULL pointer", name)
        return False
    memory.ndim = array.ndim
    for axis in range(memory.ndim):
        size = array.sizes[axis]
        if size < 0:
            refuse(of, NORMCORE_BAD_SHAPE, "%s has along axis %lld size %lld", name, axis, size)
            return False
        if size > MOST_ELEMENTS or (size and elements > MOST_ELEMENTS // size):
            refuse(of, NORMCORE_TOO_LARGE, "%s has more than %lld elements", name, MOST_ELEMENTS)
            return False
        memory.sizes[axis] = size
        elements *= size
    operand.elements = elements
    for axis in range(memory.ndim - 1, -1, -1):
        stride = below if array.strides == NULL else array.strides[axis]
        below *= max(memory.sizes[axis], 1)  # at most 8 * MOST_ELEMENTS
        memory.strides[axis] = stride
        if memory.sizes[axis] < 2:
            continue
        if stride % memory.itemsize:
            refuse(
                of, NORMCORE_BAD_STRIDES,
                "%s has stride %lld, which is no multiple of its elements' %lld bytes", name,
                stride, memory.itemsize,
            )
            return False
        if stride <= -MOST_BYTES or magnitude(stride) > (MOST_BYTES - reach) // memory.sizes[axis]:
            refuse(
                of, NORMCORE_TOO_LARGE, "%s reaches beyond all memory along axis %lld", name, axis
            )
            return False
        reach += magnitude(stride) * (memory.sizes[axis] - 1)
    return True


cdef operand_t* add(
    operands_t* of, const normcore_array* array, const char* name, int role
) noexcept nogil:
    """Describe an array of a call; return NULL where something is wrong, with a fault noted."""
    cdef operand_t* operand = &of.each[of.count]
    if of.status != NORMCORE_OK:
        return NULL
    operand.name, operand.role = name, role
    if array == NULL:
        refuse(of, NORMCORE_NULL_POINTER, "%s is a NULL pointer", name)
        return NULL
    if not set_kind(of, name, array.dtype, &operand.memory) or not set_sizes(of, array, operand):
        return NULL
    operand.memory.data = <char*> array.data
    if operand.elements and array.data == NULL:
        refuse(of, NORMCORE_NULL_POINTER, "the data of %s is a NULL pointer", name)
        return NULL
    if <size_t> array.data % operand.memory.itemsize:
        refuse(
            of, NORMCORE_BAD_STRIDES, "the data of %s is not aligned to its elements' %lld bytes",
            name, operand.memory.itemsize,
        )
        return NULL
    of.count += 1
    return operand


cdef operand_t* add_doubles(
    operands_t* of, const double* data, Py_ssize_t size, const char* name, int role
) noexcept nogil:
    """Describe float64 that follow one another, as `add`."""
    cdef normcore_array array
    cdef int64_t elements = size
    array.data, array.sizes, array.strides = <void*> data, &elements, NULL
    array.ndim, array.dtype = 1, NORMCORE_FLOAT64
    return add(of, &array, name, role)


cdef operand_t* add_like(
    operands_t* of, const normcore_array* array, const char* name, int role
) noexcept nogil:
    """Describe an array of the dtype and sizes of the first one, as `add`."""
    cdef operand_t* operand = add(of, array, name, role)
    cdef const memory_t* first = &of.each[0].memory
    cdef const memory_t* memory
    cdef int axis
    if operand == NULL:
        return NULL
    memory = &operand.memory
    if memory.kind != first.kind or memory.itemsize != first.itemsize:
        refuse2(of, NORMCORE_BAD_DTYPE, "%s is of another dtype than %s", name, of.each[0].name)
        return NULL
    if memory.ndim == first.ndim:
        for axis in range(first.ndim):
            if memory.sizes[axis] != first.sizes[axis]:
                break
        else:
            return operand
    refuse2(of, NORMCORE_BAD_SHAPE, "%s is of another shape than %s", name, of.each[0].name)
    return NULL


cdef void refuse2(
    operands_t* of, int status, const char* message, const char* name, const char* other
) noexcept nogil:
    """Note a fault of two arrays."""
    if of.status != NORMCORE_OK:
        return
    of.status = status
    if of.call != NULL:
        snprintf(of.call.message, NORMCORE_MESSAGE_SIZE, message, name, other)


# -- vectors --------------------------------------------------------------------------------


cdef view_t vector_view(
    operands_t* of, const normcore_array* array, const char* name, Py_ssize_t size,
    const double* absent, int role=READ,
) noexcept nogil:
    """Describe a vector as one row of a matrix; one number if there is none, which may be NULL."""
    cdef view_t view
    cdef operand_t* operand
    view.data, view.channels, view.positions = <char*> absent, size, 1
    view.runs = view.length = 1
    view.run_stride = view.stride = view.channel_stride = 0
    set_elements(&view, b"f", sizeof(double))
    if array == NULL and absent != NULL:
        return view
    operand = add(of, array, name, role)
    if operand == NULL:
        return view
    set_dtype(&operand.memory, &view)
    view.data, view.channel_stride = operand.memory.data, operand.memory.itemsize
    if operand.memory.ndim == 1 and size > 1:
        view.channel_stride = operand.memory.strides[0]
    elif not is_c_contiguous(&operand.memory):
        refuse(of, NORMCORE_BAD_STRIDES, "%s has several axes and is not in C order", name)
    if operand.elements != size:
        refuse(
            of, NORMCORE_BAD_SHAPE, "%s has %lld elements, but %lld are needed", name,
            operand.elements, size,
        )
    return view


cdef void read_vector(const view_t* view, double* values) noexcept nogil:
    view.load(view.data, 0, 1, view.channel_stride, view.channels, values, 0)


cdef void write_vector(const view_t* view, const double* values) noexcept nogil:
    if view.data != NULL:
        view.store(view.data, 0, 1, view.channel_stride, view.channels, values, 0)


# -- overlap --------------------------------------------------------------------------------

# Where the elements of an array lie from its lowest address on: axes of two elements or more, by
# strides that are positive and shrink.
cdef struct span_t:
    char* start
    int itemsize
    int ndim
    Py_ssize_t sizes[MAX_AXES]
    Py_ssize_t strides[MAX_AXES]


cdef span_t span_of(const memory_t* memory) noexcept nogil:
    cdef span_t span
    cdef Py_ssize_t stride
    cdef int axis, j
    span.start, span.itemsize, span.ndim = memory.data, memory.itemsize, 0
    for axis in range(memory.ndim):
        if memory.sizes[axis] < 2:
            continue
        stride = magnitude(memory.strides[axis])
        if memory.strides[axis] < 0:
            span.start -= stride * (memory.sizes[axis] - 1)
        j = span.ndim
        while j > 0 and span.strides[j - 1] < stride:
            span.strides[j], span.sizes[j] = span.strides[j - 1], span.sizes[j - 1]
            j -= 1
        span.strides[j], span.sizes[j] = stride, memory.sizes[axis]
        span.ndim += 1
    return span


cdef Py_ssize_t length_of(const span_t* span, int first) noexcept nogil:
    """Return how many bytes the axes from one on reach over."""
    cdef Py_ssize_t length = span.itemsize
    cdef int axis
    for axis in range(first, span.ndim):
        length += span.strides[axis] * (span.sizes[axis] - 1)
    return length


cdef bint overlaps_itself(const span_t* span) noexcept nogil:
    """Whether elements of an array share memory, or might: axes must not reach into each other."""
    cdef int axis
    for axis in range(span.ndim):
        if span.strides[axis] < length_of(span, axis + 1):
            return True
    return False


cdef bint do_meet(
    const span_t* a, const span_t* b, int first, Py_ssize_t distance
) noexcept nogil:
    """Whether arrays share memory, or might; axes before the first one are left out.

    Parts of one table, such as some of its columns each, have axes of the same strides: within the
    period of one they must not meet either.
    """
    cdef Py_ssize_t period, rest
    cdef Py_ssize_t a_length = length_of(a, first), b_length = length_of(b, first)
    if distance >= a_length or -distance >= b_length:
        return False
    if first >= a.ndim or first >= b.ndim or a.strides[first] != b.strides[first]:
        return True
    period = a.strides[first]
    if length_of(a, first + 1) > period or length_of(b, first + 1) > period:
        return True
    rest = distance % period
    if rest < 0:
        rest += period
    return do_meet(a, b, first + 1, rest) or do_meet(a, b, first + 1, rest - period)


cdef bint are_same(const memory_t* a, const memory_t* b) noexcept nogil:
    """Whether two arrays of one shape are the same memory, element by element."""
    cdef int axis
    if a.data != b.data or a.ndim != b.ndim or a.itemsize != b.itemsize:
        return False
    for axis in range(a.ndim):
        if a.sizes[axis] > 1 and a.strides[axis] != b.strides[axis]:
            return False
    return True


cdef void refuse_overlaps(operands_t* of) noexcept nogil:
    """Make sure that what is written is nowhere else, but for a result that is what it maps."""
    cdef operand_t* a
    cdef operand_t* b
    cdef span_t spans[MOST_OPERANDS]
    cdef int i, j
    if of.status != NORMCORE_OK:
        return
    for i in range(of.count):
        spans[i] = span_of(&of.each[i].memory)
    for i in range(of.count):
        a = &of.each[i]
        if a.role < WRITTEN or not a.elements:
            continue
        if overlaps_itself(&spans[i]):
            refuse(of, NORMCORE_OVERLAP, "elements of %s share memory", a.name)
        for j in range(of.count):
            b = &of.each[j]
            if j == i or not b.elements or (
                a.role == RESULT and b.role == MAPPED and are_same(&a.memory, &b.memory)
            ):
                continue
            if do_meet(&spans[i], &spans[j], 0, spans[j].start - spans[i].start):
                refuse2(of, NORMCORE_OVERLAP, "%s overlaps %s", a.name, b.name)
