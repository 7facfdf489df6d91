# Design: arrays of other libraries as (N, C, S) views, told by where their memory lies. A View goes
# wherever a kernel takes a NumPy array. Which axes merge is decided as the core's array_views does,
# for all arrays of a call together, so that the bits are those of NumPy arrays of this memory.

cdef dict _dtypes = {
    (FLOATING, 4): np.dtype(np.float32), (FLOATING, 8): np.dtype(np.float64),
    (FLOATING, 2): np.dtype(np.float16), (BFLOAT, 2): BFLOAT16,
}


cdef class View:
    """An (N, C, S) array, or (N, D) rows, of any library, with what is asked of a NumPy array."""

    @property
    def shape(self):
        if self.are_rows:
            return self.view.positions, self.view.channels
        if self.view.runs == 1:
            return self.view.length, self.view.channels, 1
        return self.view.runs, self.view.channels, self.view.length

    @property
    def size(self):
        return self.view.positions * self.view.channels

    @property
    def nbytes(self):
        return self.view.positions * self.view.channels * self.view.itemsize

    @property
    def dtype(self):
        return _dtypes[self.kind, self.view.itemsize]


cdef View view_on(object array, const view_t* view, int kind, bint are_rows=False):
    """Return a view, which keeps the array alive."""
    cdef View result = View.__new__(View)
    result.owner, result.view = array, view[0]
    result.kind, result.are_rows = kind, are_rows
    return result


cdef bint set_dtype(const memory_t* memory, view_t* view) noexcept nogil:
    """Set how elements are read and written; False for what is not of floating point."""
    if memory.kind == FLOATING:
        return set_elements(view, b"f", memory.itemsize)
    return memory.kind == BFLOAT and set_elements(view, b"V", memory.itemsize)


cdef bint have_one_shape(const memory_t* arrays, int number) noexcept nogil:
    """Whether arrays have the same sizes, none of them 0."""
    cdef int i, axis
    for i in range(number):
        if arrays[i].ndim != arrays[0].ndim:
            return False
        for axis in range(arrays[0].ndim):
            if arrays[i].sizes[axis] == 0 or arrays[i].sizes[axis] != arrays[0].sizes[axis]:
                return False
    return True


cdef inline Py_ssize_t size_of(
    const memory_t* memory, const int* axes, int number
) noexcept nogil:
    cdef Py_ssize_t size = 1
    cdef int i
    for i in range(number):
        size *= memory.sizes[axes[i]]
    return size


cdef bint do_merge(
    const memory_t* arrays, int number, int outer, int inner
) noexcept nogil:
    """Whether two axes are one run of memory in every array."""
    cdef int i
    for i in range(number):
        if arrays[i].strides[outer] != arrays[i].strides[inner] * arrays[i].sizes[inner]:
            return False
    return True


cdef bint merge_axes(const memory_t* arrays, int number, int channel, view_t* views) noexcept nogil:
    """Set where positions and channels lie in each of some arrays of one shape.

    False where positions do not merge into outer and inner ones.
    """
    cdef const memory_t* first = &arrays[0]
    cdef int order[MAX_AXES]
    cdef int count = 0, outer = 0, i, j, axis
    cdef Py_ssize_t inner = magnitude(first.strides[channel])
    for axis in range(first.ndim):  # insertion keeps axes of equal strides as they are
        if axis == channel or first.sizes[axis] == 1:
            continue
        j = count
        while j > 0 and magnitude(first.strides[order[j - 1]]) < magnitude(first.strides[axis]):
            order[j] = order[j - 1]
            j -= 1
        order[j] = axis
        count += 1
    for i in range(1, count):
        if not do_merge(arrays, number, order[i - 1], order[i]):
            if outer:
                return False
            outer = i
    if not outer and count and inner <= magnitude(first.strides[order[count - 1]]):
        outer = count
    for i in range(number):
        views[i].runs = size_of(first, order, outer)
        views[i].length = size_of(first, order + outer, count - outer)
        views[i].run_stride = arrays[i].strides[order[outer - 1]] if outer else 0
        views[i].stride = arrays[i].strides[order[count - 1]] if outer < count else 0
    return True


cdef bint set_views(
    const memory_t* arrays, int number, int channel, view_t* views
) noexcept nogil:
    """Describe arrays of one shape as (N, C, S); False where that is not for here."""
    cdef const memory_t* first = &arrays[0]
    cdef view_t* view
    cdef Py_ssize_t size
    cdef int i, axis
    cdef bint contiguous = True
    if first.ndim <= channel or not have_one_shape(arrays, number):
        return False
    for i in range(number):
        contiguous &= is_c_contiguous(&arrays[i])
    if contiguous and first.sizes[channel] > 1:
        for i in range(number):
            views[i].runs = views[i].length = 1
            for axis in range(first.ndim):
                size = first.sizes[axis]
                if axis < channel:
                    views[i].runs *= size
                elif axis > channel:
                    views[i].length *= size
            views[i].stride = arrays[i].itemsize
            views[i].channel_stride = views[i].length * arrays[i].itemsize
            views[i].run_stride = first.sizes[channel] * views[i].channel_stride
    else:
        if first.ndim == 2 and channel == 1 and (
            magnitude(first.strides[0]) >= magnitude(first.strides[1])
        ):
            for i in range(number):
                views[i].runs, views[i].run_stride = first.sizes[0], arrays[i].strides[0]
                views[i].length, views[i].stride = 1, 0
        elif not merge_axes(arrays, number, channel, views):
            return False
        for i in range(number):
            views[i].channel_stride = arrays[i].strides[channel]
    for i in range(number):
        view = &views[i]
        view.data, view.channels = arrays[i].data, first.sizes[channel]
        if not set_dtype(&arrays[i], view):
            return False
        finish_view(view)
    return True
