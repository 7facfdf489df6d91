# Design: statistics and maps of normcore.h. They need no Python: no GIL, no thread state, no object
# is made or counted. The same kernels serve Python's calls, with the same plans, so the bits are
# the same for any number of threads. Everything that can be wrong is looked for before the first
# element is written; what is left is memory that runs out.

cdef enum:
    MOST_VIEWS = 3
    MOST_VECTORS = 4
    MOST_EXPONENT = 4096    # of a state: those of float64 are smaller


# -- shapes ---------------------------------------------------------------------------------


cdef int channel_axis(operands_t* of, int32_t axis) noexcept nogil:
    """Return the channel axis of arrays of one shape, which is added where it is none; or -1."""
    cdef memory_t* memory
    cdef int i, j, ndim = of.each[0].memory.ndim
    if of.status != NORMCORE_OK:
        return -1
    if axis == NORMCORE_ALL and ndim < MAX_AXES:
        for j in range(of.count):
            memory = &of.each[j].memory
            for i in range(ndim, 0, -1):
                memory.sizes[i], memory.strides[i] = memory.sizes[i - 1], memory.strides[i - 1]
            memory.sizes[0], memory.strides[0], memory.ndim = 1, 0, ndim + 1
        return 0
    if axis == NORMCORE_ALL or not -ndim <= axis < ndim:
        refuse(of, NORMCORE_BAD_SHAPE, "%s has no axis %lld", of.each[0].name, axis)
        return -1
    return axis if axis >= 0 else axis + ndim


cdef Py_ssize_t size_at(const operands_t* of, int axis) noexcept nogil:
    return of.each[0].memory.sizes[axis] if axis >= 0 else 0


cdef bint set_batches(operands_t* of, int number, int axis, view_t* views) noexcept nogil:
    """Describe the first operands as (N, C, S); False where there is nothing to do, or a fault."""
    cdef memory_t memory[MOST_VIEWS]
    cdef int i
    if of.status != NORMCORE_OK or not of.each[0].elements:
        return False
    for i in range(number):
        memory[i] = of.each[i].memory
    if set_views(memory, number, axis, views):
        return True
    refuse(
        of, NORMCORE_BAD_STRIDES,
        "the axes of %s beside the channels' are not one outer and one inner run of memory; copy "
        "it, or call for each part", of.each[0].name,
    )
    return False


cdef bint merge_samples(operands_t* of, int number, int num_axes) noexcept nogil:
    """Make the first operands matrices of rows, of the last axes; False with a fault noted."""
    cdef int i
    if of.status != NORMCORE_OK:
        return False
    if not 1 <= num_axes <= of.each[0].memory.ndim:
        refuse(
            of, NORMCORE_BAD_SHAPE, "%s has %lld axes, of which num_axes, %lld, cannot be rows",
            of.each[0].name, of.each[0].memory.ndim, num_axes,
        )
        return False
    for i in range(number):
        if not merge_rows(&of.each[i].memory, num_axes):
            refuse(
                of, NORMCORE_BAD_STRIDES,
                "the axes of %s do not make up rows at one distance, of elements at one distance; "
                "copy it", of.each[i].name,
            )
            return False
    if of.each[0].memory.sizes[1] == 0:
        refuse(of, NORMCORE_BAD_SHAPE, "rows of %s have no elements", of.each[0].name)
    return of.status == NORMCORE_OK


cdef void set_samples(const operands_t* of, int number, view_t* views) noexcept nogil:
    cdef const memory_t* m
    cdef int i
    for i in range(number):
        m = &of.each[i].memory
        set_run(&views[i], m, m.sizes[0], m.strides[0], m.sizes[1], m.strides[1])


cdef void check_eps(operands_t* of, double eps) noexcept nogil:
    if not 0.0 <= eps < INFINITY:
        refuse(of, NORMCORE_BAD_VALUE, "%s must be positive or zero, and finite", b"eps")


cdef void check_states(
    operands_t* of, const double* states, Py_ssize_t number, const char* name=b"states"
) noexcept nogil:
    """Refuse states that no data has, as garbage in the place of them is."""
    cdef Py_ssize_t c
    cdef double count, exponent
    if of.status != NORMCORE_OK:
        return
    for c in range(number):
        count = states[COUNT_HI * number + c] + states[COUNT_LO * number + c]
        if not (states[COUNT_HI * number + c] >= 0.0 and 0.0 <= count < INFINITY):
            refuse(
                of, NORMCORE_BAD_VALUE,
                "%s hold a count that is negative or not finite, of channel %lld", name, c,
            )
            return
        if states[M2_HI * number + c] < 0.0:
            refuse(
                of, NORMCORE_BAD_VALUE, "%s hold a negative sum of squares, of channel %lld",
                name, c,
            )
            return
        exponent = states[EXPONENT * number + c]
        if not -MOST_EXPONENT <= exponent <= MOST_EXPONENT or exponent != <int> exponent:
            refuse(
                of, NORMCORE_BAD_VALUE,
                "%s hold an exponent that is no whole number of -%lld to %lld", name,
                MOST_EXPONENT, MOST_EXPONENT,
            )
            return


cdef int ended(operands_t* of, bint done) noexcept nogil:
    """Return the status of a call, of which the work is done unless memory ran out."""
    if not done:
        refuse(of, NORMCORE_NO_MEMORY, "there is not enough memory for %s", b"the call")
    return of.status


# -- statistics -----------------------------------------------------------------------------


cdef int c_moments(
    const normcore_array* x, int32_t axis, int32_t skipna, double* states, normcore_call* call
) noexcept nogil:
    cdef operands_t of
    cdef view_t view
    cdef Py_ssize_t channels
    begin(&of, call)
    add(&of, x, b"x", READ)
    cdef int channel = channel_axis(&of, axis)
    channels = size_at(&of, channel)
    add_doubles(&of, states, MOMENTS_ROWS * channels, b"states", WRITTEN)
    refuse_overlaps(&of)
    if set_batches(&of, 1, channel, &view):
        return ended(&of, observe_moments(&view, NULL, skipna, False, threads_of(&of), states))
    if of.status == NORMCORE_OK:
        memset(states, 0, MOMENTS_ROWS * channels * DOUBLE)
    return of.status


cdef Py_ssize_t as_number(operands_t* of, int64_t channels) noexcept nogil:
    """Return a number of channels; 0 with a fault noted."""
    if channels < 0:
        refuse(of, NORMCORE_BAD_SHAPE, "the number of %s is %lld", b"channels", channels)
    elif channels > MOST_ELEMENTS:
        refuse(of, NORMCORE_TOO_LARGE, "the number of %s is %lld", b"channels", channels)
    return channels if of.status == NORMCORE_OK else 0


cdef int c_merge(
    int64_t channels, double* states, const double* others, normcore_call* call
) noexcept nogil:
    cdef operands_t of
    cdef Py_ssize_t c, number
    begin(&of, call)
    number = as_number(&of, channels)
    add_doubles(&of, states, MOMENTS_ROWS * number, b"states", WRITTEN)
    add_doubles(&of, others, MOMENTS_ROWS * number, b"others", READ)
    refuse_overlaps(&of)
    check_states(&of, states, number)
    check_states(&of, others, number, b"others")
    if of.status == NORMCORE_OK:
        for c in range(number):
            store_moments(
                states + c, number,
                merged(load_moments(states + c, number), load_moments(others + c, number)),
            )
    return of.status


cdef int c_summarize(
    int64_t channels, const double* states, double ddof, double* count, double* mean, double* var,
    normcore_call* call,
) noexcept nogil:
    cdef operands_t of
    cdef Py_ssize_t c, number
    begin(&of, call)
    number = as_number(&of, channels)
    add_doubles(&of, states, MOMENTS_ROWS * number, b"states", READ)
    if count != NULL:
        add_doubles(&of, count, number, b"count", WRITTEN)
    if mean != NULL:
        add_doubles(&of, mean, number, b"mean", WRITTEN)
    if var != NULL:
        add_doubles(&of, var, number, b"var", WRITTEN)
    refuse_overlaps(&of)
    if not -INFINITY < ddof < INFINITY:
        refuse(&of, NORMCORE_BAD_VALUE, "%s must be finite", b"ddof")
    check_states(&of, states, number)
    if of.status != NORMCORE_OK:
        return of.status
    if count != NULL:
        for c in range(number):
            count[c] = states[COUNT_HI * number + c] + states[COUNT_LO * number + c]
    if mean != NULL:
        set_means(states, number, mean)
    if var != NULL:
        set_vars(states, number, ddof, var)
    return NORMCORE_OK


cdef int c_given(
    int64_t channels, const double* mean, const double* var, double* states, normcore_call* call
) noexcept nogil:
    cdef operands_t of
    cdef Py_ssize_t c, number
    begin(&of, call)
    number = as_number(&of, channels)
    add_doubles(&of, states, MOMENTS_ROWS * number, b"states", WRITTEN)
    add_doubles(&of, mean, number, b"mean", READ)
    add_doubles(&of, var, number, b"var", READ)
    refuse_overlaps(&of)
    if of.status == NORMCORE_OK:
        check_variances(&of, var, number)
    if of.status != NORMCORE_OK:
        return of.status
    memset(states, 0, MOMENTS_ROWS * number * DOUBLE)
    for c in range(number):
        states[COUNT_HI * number + c] = 1.0
        states[SUM_HI * number + c] = mean[c]
        states[M2_HI * number + c] = var[c]
    return NORMCORE_OK


cdef int c_running(
    int64_t channels, const double* states, double weight, double ddof, double* mean, double* var,
    normcore_call* call,
) noexcept nogil:
    cdef operands_t of
    cdef Py_ssize_t c, number
    cdef moments_t batch
    begin(&of, call)
    number = as_number(&of, channels)
    add_doubles(&of, states, MOMENTS_ROWS * number, b"states", READ)
    add_doubles(&of, mean, number, b"mean", WRITTEN)
    add_doubles(&of, var, number, b"var", WRITTEN)
    refuse_overlaps(&of)
    check_states(&of, states, number)
    if not -INFINITY < ddof < INFINITY:
        refuse(&of, NORMCORE_BAD_VALUE, "%s must be finite", b"ddof")
    if not 0.0 <= weight <= 1.0:
        refuse(&of, NORMCORE_BAD_VALUE, "%s must be 0 to 1", b"weight")
    if of.status == NORMCORE_OK:
        for c in range(number):
            if has_variance(states, number, c, ddof):
                batch = load_moments(states + c, number)
                mean[c] = moved_average(mean[c], mean_of(batch), weight)
                var[c] = moved_average(var[c], var_of(batch, ddof), weight)
    return of.status


cdef void check_variances(operands_t* of, const double* var, Py_ssize_t number) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(number):
        if var[c] < 0.0:
            refuse(of, NORMCORE_BAD_VALUE, "%s is negative in channel %lld", b"var", c)


# -- channels -------------------------------------------------------------------------------


cdef int c_rescale(
    const normcore_array* x, int32_t axis, const normcore_array* center,
    const normcore_array* scale, const normcore_array* gamma, const normcore_array* beta,
    const normcore_array* y, normcore_call* call,
) noexcept nogil:
    cdef operands_t of
    cdef view_t views[2]
    cdef view_t vectors[MOST_VECTORS]
    cdef heap_t heap
    cdef double* affine
    cdef int row, channel
    cdef Py_ssize_t channels
    cdef bint done
    begin(&of, call)
    heap.count = 0
    add(&of, x, b"x", MAPPED)
    add_like(&of, y, b"y", RESULT)
    channel = channel_axis(&of, axis)
    channels = size_at(&of, channel)
    vectors[0] = vector_view(&of, center, b"center", channels, &ZERO)
    vectors[1] = vector_view(&of, scale, b"scale", channels, &ONE)
    vectors[2] = vector_view(&of, gamma, b"gamma", channels, &ONE)
    vectors[3] = vector_view(&of, beta, b"beta", channels, &ZERO)
    refuse_overlaps(&of)
    if not set_batches(&of, 2, channel, views):
        return of.status
    affine = take(&heap, COEFFICIENTS * channels)
    done = affine != NULL
    if done:
        for row in range(COEFFICIENTS):
            read_vector(&vectors[row], affine + row * channels)
        done = map_channels(&views[0], affine, &views[1], threads_of(&of))
    free_all(&heap)
    return ended(&of, done)
