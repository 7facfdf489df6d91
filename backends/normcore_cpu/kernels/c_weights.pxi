# Design: weighted moments of normcore.h. Weights may have any strides, so that x and they need not
# have one outer and one inner run of memory together: they are then walked in the parts that
# Python's calls walk, so that the bits are the same. The moments are found in memory of the call's
# own, since whether weights are too large for the data is known only then.

# Below, products of weights and squares lose digits, as normcore.array_backend.over_views has it.
cdef double TINY_WEIGHT = ldexp(1.0, -800)

cdef enum:
    CHUNK = 256

cdef const char* TOO_HEAVY = (
    b"%s are so large that their sum, or that of their products with x, is beyond the largest "
    b"float64; divide them by a constant"
)

ctypedef bint (*visit_t)(view_t* views, void* state) noexcept nogil

cdef struct sum_of_weights_t:
    operands_t* of
    double total
    double heaviest

cdef struct weighted_t:
    Py_ssize_t channels
    bint skipna
    bint begun
    int num_threads
    double* states
    double* part            # states of a part; then 1 where a channel holds what is not finite


# -- parts ----------------------------------------------------------------------------------


cdef bint visit_parts(
    const memory_t* arrays, int number, int channel, visit_t visit, void* state
) noexcept nogil:
    """Visit arrays of one shape as (N, C, S), an index of their shortest axis at a time if needed.

    False as soon as a visit is.
    """
    cdef view_t views[2]
    cdef memory_t rest[2]
    cdef int i, axis, shortest = -1
    cdef const memory_t* first = &arrays[0]
    cdef Py_ssize_t index
    if set_views(arrays, number, channel, views):
        return visit(views, state)
    for axis in range(first.ndim):
        if axis != channel and first.sizes[axis] > 1 and (
            shortest < 0 or first.sizes[axis] < first.sizes[shortest] or (
                first.sizes[axis] == first.sizes[shortest]
                and magnitude(first.strides[axis]) > magnitude(first.strides[shortest])
            )
        ):
            shortest = axis
    for index in range(first.sizes[shortest]):
        for i in range(number):
            rest[i] = arrays[i]
            leave_axis(&rest[i], shortest, index)
        if not visit_parts(rest, number, channel - (shortest < channel), visit, state):
            return False
    return True


cdef void leave_axis(memory_t* memory, int axis, Py_ssize_t index) noexcept nogil:
    """Keep one index of an axis alone."""
    cdef int i
    memory.data += index * memory.strides[axis]
    memory.ndim -= 1
    for i in range(axis, memory.ndim):
        memory.sizes[i], memory.strides[i] = memory.sizes[i + 1], memory.strides[i + 1]


cdef inline void load_chunk(
    const view_t* view, Py_ssize_t channel, Py_ssize_t run, Py_ssize_t start, Py_ssize_t number,
    double* values,
) noexcept nogil:
    view.load(
        view.data + channel * view.channel_stride + run * view.run_stride + start * view.stride,
        0, 1, view.stride, number, values, 0,
    )


# -- weights --------------------------------------------------------------------------------


cdef void add_plane(
    operands_t* of, const normcore_array* array, const char* name, int channel
) noexcept nogil:
    """Describe an array of the first one's axes but the channels', as `add`; all channels share it.
    """
    cdef const memory_t* first = &of.each[0].memory
    cdef operand_t* operand = add(of, array, name, READ)
    cdef memory_t* memory
    cdef int i
    if operand == NULL:
        return
    memory = &operand.memory
    if memory.ndim + 1 != first.ndim:
        refuse(
            of, NORMCORE_BAD_SHAPE, "%s has %lld axes, but x has %lld beside the channels'", name,
            memory.ndim, first.ndim - 1,
        )
        return
    for i in range(memory.ndim, channel, -1):
        memory.sizes[i], memory.strides[i] = memory.sizes[i - 1], memory.strides[i - 1]
    memory.ndim += 1
    memory.sizes[channel], memory.strides[channel] = first.sizes[channel], 0
    for i in range(first.ndim):
        if memory.sizes[i] != first.sizes[i]:
            refuse(
                of, NORMCORE_BAD_SHAPE, "%s is of another shape than x without its channels", name
            )
            return


cdef void check_weights(operands_t* of, const operand_t* operand, int channel) noexcept nogil:
    """Refuse weights that are negative or not finite, or whose sum or products float64 lacks."""
    cdef memory_t memory = operand.memory
    cdef sum_of_weights_t found
    cdef double repeats = 1.0
    cdef int axis
    for axis in range(memory.ndim):
        if memory.sizes[axis] == 0 and axis != channel:
            return
        if memory.strides[axis] == 0 or axis == channel:
            repeats *= 1.0 if axis == channel else <double> memory.sizes[axis]
            memory.sizes[axis] = 1
    found.of, found.total, found.heaviest = of, 0.0, 0.0
    if not visit_parts(&memory, 1, channel, add_weights, &found):
        return
    if not found.total * repeats < INFINITY:
        refuse(of, NORMCORE_BAD_VALUE, TOO_HEAVY, operand.name)
    elif 0.0 < found.heaviest < TINY_WEIGHT:
        refuse(
            of, NORMCORE_BAD_VALUE, "%s are so small that float64 cannot hold their products with "
            "x; multiply them by a constant", operand.name,
        )


cdef bint add_weights(view_t* views, void* state) noexcept nogil:
    cdef sum_of_weights_t* found = <sum_of_weights_t*> state
    cdef double values[CHUNK]
    cdef Py_ssize_t run, start, i, number
    for run in range(views.runs):
        start = 0
        while start < views.length:
            number = min(views.length - start, <Py_ssize_t> CHUNK)
            load_chunk(views, 0, run, start, number, values)
            for i in range(number):
                if not 0.0 <= values[i] < INFINITY:
                    refuse(
                        found.of, NORMCORE_BAD_VALUE,
                        "%s hold a number that is negative or not finite", b"weights",
                    )
                    return False
                found.total += values[i]
                found.heaviest = max(found.heaviest, values[i])
            start += number
    return True


# -- moments --------------------------------------------------------------------------------


cdef bint observe_part(view_t* views, void* state) noexcept nogil:
    """Merge the moments of a part into the states; False without memory."""
    cdef weighted_t* to = <weighted_t*> state
    cdef double* states = to.part if to.begun else to.states
    cdef Py_ssize_t c, n = to.channels
    views[1].channels = 1
    if not observe_moments(&views[0], &views[1], to.skipna, False, to.num_threads, states):
        return False
    if to.begun:
        for c in range(n):
            store_moments(
                to.states + c, n,
                merged(load_moments(to.states + c, n), load_moments(to.part + c, n)),
            )
    to.begun = True
    return True


cdef inline bint is_finite_state(const double* states, Py_ssize_t channels) noexcept nogil:
    cdef int row
    for row in range(MOMENTS_ROWS):
        if not -INFINITY < states[row * channels] < INFINITY:
            return False
    return True


cdef bint note_infinity(view_t* views, void* state) noexcept nogil:
    """Note the channels in which something that counts is not finite."""
    cdef weighted_t* to = <weighted_t*> state
    cdef double x[CHUNK]
    cdef double weights[CHUNK]
    cdef Py_ssize_t c, run, start, i, number
    for c in range(to.channels):
        if to.part[c] or is_finite_state(to.states + c, to.channels):
            continue
        for run in range(views.runs):
            start = 0
            while start < views.length:
                number = min(views.length - start, <Py_ssize_t> CHUNK)
                load_chunk(&views[0], c, run, start, number, x)
                load_chunk(&views[1], 0, run, start, number, weights)
                for i in range(number):
                    if weights[i] and not -INFINITY < x[i] < INFINITY and not (
                        to.skipna and x[i] != x[i]
                    ):
                        to.part[c] = 1.0
                start += number
    return True


cdef void refuse_overflow(
    operands_t* of, const memory_t* both, int channel, weighted_t* to
) noexcept nogil:
    """Refuse weights that made the states of finite data infinite."""
    cdef Py_ssize_t c
    memset(to.part, 0, to.channels * DOUBLE)
    for c in range(to.channels):
        if not is_finite_state(to.states + c, to.channels):
            break
    else:
        return
    visit_parts(both, 2, channel, note_infinity, to)
    for c in range(to.channels):
        if not to.part[c] and not is_finite_state(to.states + c, to.channels):
            refuse(of, NORMCORE_BAD_VALUE, TOO_HEAVY, of.each[1].name)


cdef int c_weighted_moments(
    const normcore_array* x, int32_t axis, const normcore_array* weights, int32_t skipna,
    double* states, normcore_call* call,
) noexcept nogil:
    cdef operands_t of
    cdef view_t view
    cdef memory_t both[2]
    cdef weighted_t to
    cdef heap_t heap
    cdef Py_ssize_t size
    cdef bint done
    begin(&of, call)
    heap.count = 0
    add(&of, x, b"x", READ)
    cdef int channel = channel_axis(&of, axis)
    to.channels, to.skipna, to.begun = size_at(&of, channel), skipna, False
    size = MOMENTS_ROWS * to.channels
    add_plane(&of, weights, b"weights", channel)
    add_doubles(&of, states, size, b"states", WRITTEN)
    refuse_overlaps(&of)
    if of.status == NORMCORE_OK:
        check_weights(&of, &of.each[1], channel)
    if not set_batches(&of, 1, channel, &view):
        if of.status == NORMCORE_OK:
            memset(states, 0, size * DOUBLE)
        return of.status
    to.num_threads = threads_of(&of)
    to.states, to.part = take(&heap, size), take(&heap, size)
    done = to.states != NULL and to.part != NULL
    both[0], both[1] = of.each[0].memory, of.each[1].memory
    done = done and visit_parts(both, 2, channel, observe_part, &to)
    if done:
        refuse_overflow(&of, both, channel, &to)
    if done and of.status == NORMCORE_OK:
        memcpy(states, to.states, size * DOUBLE)
    free_all(&heap)
    return ended(&of, done)
