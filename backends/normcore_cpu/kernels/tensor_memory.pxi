# Design: what tensors hold, as the views that kernels take and as vectors of float64. All that is
# asked of an argument is asked before anything is written.


cdef bint describe_all(tuple arrays, memory_t* memory) except -1:
    """Describe arrays of one dtype; False where that is not for here."""
    cdef int i = 0
    for array in arrays:
        if not describe(array, &memory[i]):
            return False
        if memory[i].kind != memory[0].kind or memory[i].itemsize != memory[0].itemsize:
            return False
        i += 1
    return True


cdef list batch_views(tuple arrays):
    """Return the (N, C, S) views of arrays whose second axis is the channels', or None."""
    cdef memory_t memory[MOST]
    cdef view_t views[MOST]
    cdef int i
    if not describe_all(arrays, memory) or not set_views(memory, len(arrays), 1, views):
        return None
    return [view_on(arrays[i], &views[i], memory[i].kind) for i in range(len(arrays))]


cdef View placed(
    object array, const memory_t* memory, Py_ssize_t length, Py_ssize_t stride,
    Py_ssize_t channels, Py_ssize_t channel_stride, bint are_rows,
):
    """Return a view of one run of positions, or None for what is not of floating point."""
    cdef view_t view
    if not set_run(&view, memory, length, stride, channels, channel_stride):
        return None
    return view_on(array, &view, memory.kind, are_rows)


cdef bint set_run(
    view_t* view, const memory_t* memory, Py_ssize_t length, Py_ssize_t stride,
    Py_ssize_t channels, Py_ssize_t channel_stride,
) noexcept nogil:
    """Describe one run of positions; False for what is not of floating point."""
    view.data = memory.data
    view.runs, view.run_stride = 1, 0
    view.length, view.stride = length, stride
    view.positions = length
    view.channels, view.channel_stride = channels, channel_stride
    return set_dtype(memory, view)


# -- rows -----------------------------------------------------------------------------------


cdef bint merge_rows(memory_t* memory, int num_axes) noexcept nogil:
    """Make an array one of rows, which its last axes are; False where memory has other runs."""
    cdef Py_ssize_t size, stride
    cdef int part, axis, first = 0, last = memory.ndim - num_axes, stop = memory.ndim
    if num_axes < 1 or last < 0:
        return False
    cdef Py_ssize_t sizes[2]
    cdef Py_ssize_t strides[2]
    for part in range(2):
        size, stride = 1, memory.itemsize
        for axis in range(last - 1, first - 1, -1):
            if memory.sizes[axis] == 1:
                continue
            if size == 1:
                stride = memory.strides[axis]
            elif memory.strides[axis] != size * stride:
                return False
            size *= memory.sizes[axis]
        sizes[part], strides[part] = size, stride
        first, last = last, stop
    memory.ndim = 2
    memory.sizes[0], memory.strides[0] = sizes[0], strides[0]
    memory.sizes[1], memory.strides[1] = sizes[1], strides[1]
    return True


cdef list row_views(tuple arrays, int num_axes):
    """Return arrays as views of rows, or None."""
    cdef memory_t memory[MOST]
    cdef memory_t* m
    cdef list views = []
    cdef int i
    if not describe_all(arrays, memory):
        return None
    for i in range(len(arrays)):
        m = &memory[i]
        if not merge_rows(m, num_axes):
            return None
        if not (m.sizes[0] > 0 and 0 < m.sizes[1] <= LONG_ROW):
            return None
        if m.sizes[0] != memory[0].sizes[0] or m.sizes[1] != memory[0].sizes[1]:
            return None
        view = placed(arrays[i], m, m.sizes[0], m.strides[0], m.sizes[1], m.strides[1], True)
        if view is None:
            return None
        views.append(view)
    return views


# -- groups ---------------------------------------------------------------------------------


cdef class Groups:
    """How arrays in C order are groups of neighbouring channels of samples."""

    cdef Py_ssize_t samples, channels, per_group, positions

    cdef View view(self, object array, const memory_t* memory, Py_ssize_t channels):
        """Return an array as so many channels that follow one another."""
        cdef Py_ssize_t length = self.samples * self.channels * self.positions // channels
        return placed(
            array, memory, length, memory.itemsize, channels, length * memory.itemsize, False
        )

    cdef int spread(self, object of_groups, double* of_channels) except -1:
        """Repeat a number of each group for its channels."""
        cdef const double* numbers = doubles_of(of_groups)
        cdef Py_ssize_t i
        for i in range(self.samples * self.channels):
            of_channels[i] = numbers[i // self.per_group]
        return 0

    cdef void repeat(self, double* of_channels) noexcept nogil:
        """Repeat the numbers of channels, which stand first, for each sample."""
        cdef Py_ssize_t sample, size = self.channels
        for sample in range(1, self.samples):
            memcpy(of_channels + sample * size, of_channels, size * sizeof(double))


cdef Groups groups_of(tuple arrays, memory_t* memory, Py_ssize_t groups):
    """Describe arrays of one shape, in C order; or return None."""
    cdef Groups found = Groups.__new__(Groups)
    cdef int number = len(arrays)
    cdef view_t view
    cdef int i, axis
    if not describe_all(arrays, memory) or memory[0].ndim < 2 or not set_dtype(memory, &view):
        return None
    if groups < 1 or not have_one_shape(memory, number):
        return None
    for i in range(number):
        if not is_c_contiguous(&memory[i]):
            return None
    found.samples, found.channels, found.positions = memory[0].sizes[0], memory[0].sizes[1], 1
    for axis in range(2, memory[0].ndim):
        found.positions *= memory[0].sizes[axis]
    if found.channels % groups or found.samples * found.channels > MANY_CHANNELS:
        return None
    found.per_group = found.channels // groups
    return found


# -- vectors --------------------------------------------------------------------------------


cdef bint is_vector(object array, Py_ssize_t size, memory_t* memory, view_t* view) except -1:
    """Describe a vector, or an array in C order, of so many numbers; False for all else."""
    cdef Py_ssize_t found = 1
    cdef int axis
    if not describe(array, memory) or memory.ndim == 0 or not set_dtype(memory, view):
        return False
    for axis in range(memory.ndim):
        found *= memory.sizes[axis]
    view.stride = memory.strides[0] if memory.ndim == 1 else memory.itemsize
    return found == size and (memory.ndim == 1 or is_c_contiguous(memory))


cdef bint read(object array, Py_ssize_t size, double* values) except -1:
    """Widen a vector; False where there is none of that size."""
    cdef memory_t memory
    cdef view_t view
    if not is_vector(array, size, &memory, &view):
        return False
    view.load(memory.data, 0, 1, view.stride, size, values, 0)
    return True


cdef bint read_or(object array, Py_ssize_t size, double* values, double absent) except -1:
    """Widen a vector, or put one number for all of it if there is none."""
    cdef Py_ssize_t i
    if array is not None:
        return read(array, size, values)
    for i in range(size):
        values[i] = absent
    return True


cdef object vector(object array, Py_ssize_t size, double absent):
    """Return a vector in float64, of one number if there is none; None if it does not fit."""
    result = np.empty(size)
    return result if read_or(array, size, doubles_of(result), absent) else None


cdef object number_or_vector(object array, Py_ssize_t size, double absent):
    """Return a vector in float64, or the number that stands for none; None if it does not fit."""
    return absent if array is None else vector(array, size, absent)


cdef bint can_write(object array, Py_ssize_t size) except -1:
    cdef memory_t memory
    cdef view_t view
    return is_vector(array, size, &memory, &view)


cdef int write(object array, object values, Py_ssize_t size) except -1:
    """Round numbers into a vector that can be written."""
    cdef memory_t memory
    cdef view_t view
    is_vector(array, size, &memory, &view)
    view.store(memory.data, 0, 1, view.stride, size, doubles_of(values), 0)
    return 0


cdef object by_way_of_float(object values, object array):
    """Round numbers to float32 first for a narrower vector, as PyTorch does where it copies."""
    cdef memory_t memory
    describe(array, &memory)
    if memory.itemsize < <int> sizeof(float):
        return values.astype(np.float32).astype(np.float64)
    return values


# -- the states of moments ------------------------------------------------------------------


cdef bint holds_states(object parts, Py_ssize_t number) except -1:
    """Whether there is memory of shape (7, number), float64 and in C order."""
    cdef memory_t memory
    return (
        describe(parts, &memory) and memory.kind == FLOATING and memory.itemsize == DOUBLE
        and memory.ndim == 2 and memory.sizes[0] == MOMENTS_ROWS and memory.sizes[1] == number
        and is_c_contiguous(&memory)
    )


cdef object states(object parts, Py_ssize_t number):
    """Return the moments whose states memory holds."""
    cdef memory_t memory
    describe(parts, &memory)
    copy = np.empty((MOMENTS_ROWS, number))
    memcpy(doubles_of(copy), memory.data, MOMENTS_ROWS * number * DOUBLE)
    return Moments(copy)


cdef int write_states(object parts, object moments, Py_ssize_t number) except -1:
    cdef memory_t memory
    describe(parts, &memory)
    memcpy(memory.data, doubles_of(moments.parts), MOMENTS_ROWS * number * DOUBLE)
    return 0


cdef object given_states(object statistics, Py_ssize_t channels):
    """Return moments of one value with a given mean and variance, (2, C); None if it is not that.
    """
    cdef memory_t memory
    cdef view_t view
    if not is_vector(statistics, 2 * channels, &memory, &view):
        return None
    if memory.ndim != 2 or memory.sizes[0] != 2:
        return None
    given, parts = np.empty((2, channels)), np.zeros((MOMENTS_ROWS, channels))
    view.load(memory.data, 0, 1, view.stride, 2 * channels, doubles_of(given), 0)
    parts[COUNT_HI] = 1.0
    parts[SUM_HI], parts[M2_HI] = given
    return Moments(parts)
