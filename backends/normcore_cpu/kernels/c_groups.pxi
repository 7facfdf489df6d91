# Design: group norm of normcore.h, of samples in C order, any distance apart. Samples are taken in
# the blocks that Python's calls take them in, so that sums over samples have the same bits.

# As normcore.layernorm.sample_blocks has them: elements of a sample from which on it is a block by
# itself where samples do not follow one another, and elements of a block where it is not.
cdef Py_ssize_t MIN_SAMPLE = 1 << 14
cdef Py_ssize_t MAX_COPY = 1 << 16

cdef struct groups_t:
    Py_ssize_t samples
    Py_ssize_t channels
    Py_ssize_t groups       # of a sample
    Py_ssize_t per_group    # channels
    Py_ssize_t positions    # of a channel
    Py_ssize_t step         # samples of a block ...
    Py_ssize_t width        # ... and channels of it
    bint together           # samples follow one another


cdef bint set_groups(
    operands_t* of, int number, int32_t axis, int64_t num_groups, groups_t* at
) noexcept nogil:
    """Make the first operands matrices of samples; False with a fault noted."""
    cdef memory_t* first = &of.each[0].memory
    cdef memory_t* memory
    cdef int i, channel
    cdef Py_ssize_t size
    if of.status != NORMCORE_OK:
        return False
    if first.ndim < 2 or axis == NORMCORE_ALL:
        refuse(
            of, NORMCORE_BAD_SHAPE, "%s has %lld axes and channel axis %lld; samples with channels "
            "have 2 axes or more", of.each[0].name, first.ndim, axis,
        )
        return False
    channel = channel_axis(of, axis)
    if channel < 0:
        return False
    at.samples, at.channels = first.sizes[1 if channel == 0 else 0], first.sizes[channel]
    at.groups = num_groups
    if num_groups < 1 or at.channels == 0 or at.channels % num_groups:
        refuse(
            of, NORMCORE_BAD_SHAPE, "%s has %lld channels, which do not make up num_groups, %lld",
            of.each[0].name, at.channels, num_groups,
        )
        return False
    if at.samples and not of.each[0].elements:
        refuse(of, NORMCORE_BAD_SHAPE, "groups of %s have no values", of.each[0].name)
        return False
    size = of.each[0].elements // max(at.samples, 1)
    at.per_group = at.channels // at.groups
    at.positions = size // max(at.channels, 1)
    at.together = True
    for i in range(number):
        memory = &of.each[i].memory
        make_second(memory, channel)
        if not merge_rows(memory, memory.ndim - 1) or (
            size > 1 and memory.strides[1] != memory.itemsize
        ):
            refuse(
                of, NORMCORE_BAD_STRIDES,
                "each sample of %s must be in C order, channels first; copy it", of.each[i].name,
            )
            return False
        at.together &= at.samples < 2 or memory.strides[0] == size * memory.itemsize
    at.width = min(at.channels, max(MANY_CHANNELS // at.per_group, 1) * at.per_group)
    at.step = max(MANY_CHANNELS // max(at.channels, 1), 1)
    if not at.together:
        at.step = min(at.step, 1 if size >= MIN_SAMPLE else MAX_COPY // max(size, 1))
    at.step = min(at.step, at.samples)
    return True


cdef void make_second(memory_t* memory, int axis) noexcept nogil:
    """Move an axis to the second place: the first one is then that of the samples."""
    cdef int step = 1 if axis < 1 else -1
    cdef Py_ssize_t size, stride
    while axis != 1:
        size, stride = memory.sizes[axis], memory.strides[axis]
        memory.sizes[axis] = memory.sizes[axis + step]
        memory.strides[axis] = memory.strides[axis + step]
        axis += step
        memory.sizes[axis], memory.strides[axis] = size, stride


cdef void set_block(
    const operands_t* of, int number, const groups_t* at, Py_ssize_t sample, Py_ssize_t samples,
    Py_ssize_t channel, Py_ssize_t channels, view_t* views,
) noexcept nogil:
    """Describe channels of samples that follow one another, as so many channels."""
    cdef const memory_t* m
    cdef Py_ssize_t distance
    cdef int i
    for i in range(number):
        m = &of.each[i].memory
        distance = at.positions * m.itemsize
        set_run(&views[i], m, at.positions, m.itemsize, samples * channels, distance)
        views[i].data = m.data + sample * m.strides[0] + channel * distance


cdef void copy_states(
    const double* source, Py_ssize_t source_ld, double* target, Py_ssize_t target_ld,
    Py_ssize_t number,
) noexcept nogil:
    cdef Py_ssize_t row
    for row in range(MOMENTS_ROWS):
        memcpy(target + row * target_ld, source + row * source_ld, number * DOUBLE)


cdef void add_samples(
    const double* values, Py_ssize_t samples, Py_ssize_t channels, double* totals
) noexcept nogil:
    """Add what each sample has for a channel, in the order in which NumPy sums a column."""
    cdef Py_ssize_t c, i
    cdef double total
    if channels == 1:
        totals[0] += sum_in_pairs(values, samples)
        return
    for c in range(channels):
        total = values[c]
        for i in range(1, samples):
            total += values[i * channels + c]
        totals[c] += total


cdef int c_group_norm(
    const normcore_array* x, int32_t axis, int64_t num_groups, const normcore_array* gamma,
    const normcore_array* beta, double eps, const normcore_array* y, double* states,
    normcore_call* call,
) noexcept nogil:
    cdef operands_t of
    cdef groups_t at
    cdef view_t views[2]
    cdef view_t weight, shift
    cdef heap_t heap
    cdef double* vectors
    cdef double* parts
    cdef Py_ssize_t i = 0, j = 0, samples, channels, step, number, found
    cdef bint done
    begin(&of, call)
    heap.count = 0
    add(&of, x, b"x", MAPPED)
    add_like(&of, y, b"y", RESULT)
    if not set_groups(&of, 2, axis, num_groups, &at):
        return of.status
    number = at.samples * at.groups
    weight = vector_view(&of, gamma, b"gamma", at.channels, &ONE)
    shift = vector_view(&of, beta, b"beta", at.channels, &ZERO)
    add_doubles(&of, states, MOMENTS_ROWS * number, b"states", WRITTEN)
    check_eps(&of, eps)
    refuse_overlaps(&of)
    if of.status != NORMCORE_OK or number == 0:
        return of.status
    step = at.step if at.together else 1
    vectors = take(&heap, 2 * at.channels)
    parts = take(&heap, MOMENTS_ROWS * step * (at.width // at.per_group))
    done = vectors != NULL and parts != NULL
    if done:
        read_vector(&weight, vectors)
        read_vector(&shift, vectors + at.channels)
    while done and i < at.samples:
        samples, channels = min(step, at.samples - i), min(at.width, at.channels - j)
        found = samples * channels // at.per_group
        set_block(&of, 2, &at, i, samples, j, channels, views)
        done = normalize_groups(
            &views[0], at.per_group, vectors + j, vectors + at.channels + j, channels, eps,
            &views[1], threads_of(&of), parts,
        )
        copy_states(parts, found, states + i * at.groups + j // at.per_group, number, found)
        j += channels
        if j == at.channels:
            i, j = i + samples, 0
    free_all(&heap)
    return ended(&of, done)


cdef int c_group_norm_backward(
    const normcore_array* dy, const normcore_array* x, int32_t axis, int64_t num_groups,
    const double* states, const normcore_array* gamma, double eps, const normcore_array* dx,
    const normcore_array* dgamma, const normcore_array* dbeta, normcore_call* call,
) noexcept nogil:
    cdef operands_t of
    cdef groups_t at
    cdef view_t views[3]
    cdef view_t weight, for_gamma, for_beta
    cdef heap_t heap
    cdef double* vectors
    cdef double* parts
    cdef double* added
    cdef Py_ssize_t i = 0, j = 0, k, samples, channels, each, number, found, most
    cdef bint done
    begin(&of, call)
    heap.count = 0
    add(&of, dy, b"dy", MAPPED)
    add_like(&of, x, b"x", MAPPED)
    add_like(&of, dx, b"dx", RESULT)
    if not set_groups(&of, 3, axis, num_groups, &at):
        return of.status
    number = at.samples * at.groups
    add_doubles(&of, states, MOMENTS_ROWS * number, b"states", READ)
    weight = vector_view(&of, gamma, b"gamma", at.channels, &ONE)
    for_gamma = written_vector(&of, dgamma, b"dgamma", at.channels)
    for_beta = written_vector(&of, dbeta, b"dbeta", at.channels)
    check_eps(&of, eps)
    refuse_overlaps(&of)
    check_states(&of, states, number)
    if of.status != NORMCORE_OK:
        return of.status
    most = at.step * at.width
    vectors = take(&heap, 3 * at.channels)  # gamma, dgamma and dbeta
    parts = take(&heap, MOMENTS_ROWS * (most // at.per_group))
    added = take(&heap, 2 * most)
    done = vectors != NULL and parts != NULL and added != NULL
    if done:
        read_vector(&weight, vectors)
    while done and i < at.samples:
        samples, channels = min(at.step, at.samples - i), min(at.width, at.channels - j)
        each = samples if at.together else 1
        found = each * channels // at.per_group
        k = 0
        while k < samples:
            set_block(&of, 3, &at, i + k, each, j, channels, views)
            copy_states(
                states + (i + k) * at.groups + j // at.per_group, number, parts, found, found
            )
            done = done and differentiate_groups(
                &views[0], &views[1], at.per_group, parts, vectors + j, channels, eps, &views[2],
                threads_of(&of), added + k * channels, added + most + k * channels,
            )
            k += each
        add_samples(added, samples, channels, vectors + at.channels + j)
        add_samples(added + most, samples, channels, vectors + 2 * at.channels + j)
        j += channels
        if j == at.channels:
            i, j = i + samples, 0
    if done:
        write_vector(&for_gamma, vectors + at.channels)
        write_vector(&for_beta, vectors + 2 * at.channels)
    free_all(&heap)
    return ended(&of, done)
