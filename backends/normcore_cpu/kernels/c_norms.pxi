# Design: batch norm and norms of rows of normcore.h, and the table of all its functions, in a
# capsule. It only ever grows at its end, so that a program compiled against an older header finds
# all that it knows where it was.

# -- batch norm -----------------------------------------------------------------------------


cdef int c_batch_norm(
    const normcore_array* x, int32_t axis, const normcore_array* gamma,
    const normcore_array* beta, double eps, const normcore_array* y, double* states,
    normcore_call* call,
) noexcept nogil:
    cdef operands_t of
    cdef view_t views[2]
    cdef view_t weight, shift
    cdef heap_t heap
    cdef double* vectors
    cdef Py_ssize_t channels
    cdef int channel
    cdef bint done
    begin(&of, call)
    heap.count = 0
    add(&of, x, b"x", MAPPED)
    add_like(&of, y, b"y", RESULT)
    channel = channel_axis(&of, axis)
    channels = size_at(&of, channel)
    weight = vector_view(&of, gamma, b"gamma", channels, &ONE)
    shift = vector_view(&of, beta, b"beta", channels, &ZERO)
    add_doubles(&of, states, MOMENTS_ROWS * channels, b"states", WRITTEN)
    check_eps(&of, eps)
    refuse_overlaps(&of)
    if of.status == NORMCORE_OK and channels and of.each[0].elements == channels:
        refuse(&of, NORMCORE_BAD_VALUE, "%s has one value in each channel: no variance", b"x")
    if not set_batches(&of, 2, channel, views):
        if of.status == NORMCORE_OK:
            memset(states, 0, MOMENTS_ROWS * channels * DOUBLE)
        return of.status
    vectors = take(&heap, 2 * channels)
    done = vectors != NULL
    if done:
        read_vector(&weight, vectors)
        read_vector(&shift, vectors + channels)
        done = normalize_batch(
            &views[0], vectors, vectors + channels, eps, &views[1], threads_of(&of), states
        )
    free_all(&heap)
    return ended(&of, done)


cdef int c_batch_norm_backward(
    const normcore_array* dy, const normcore_array* x, int32_t axis, const double* states,
    int32_t training, const normcore_array* gamma, double eps, const normcore_array* dx,
    const normcore_array* dgamma, const normcore_array* dbeta, normcore_call* call,
) noexcept nogil:
    cdef operands_t of
    cdef view_t views[3]
    cdef view_t weight, for_gamma, for_beta
    cdef heap_t heap
    cdef double* vectors
    cdef Py_ssize_t channels
    cdef int channel
    cdef bint done
    begin(&of, call)
    heap.count = 0
    add(&of, dy, b"dy", MAPPED)
    add_like(&of, x, b"x", MAPPED)
    add_like(&of, dx, b"dx", RESULT)
    channel = channel_axis(&of, axis)
    channels = size_at(&of, channel)
    add_doubles(&of, states, MOMENTS_ROWS * channels, b"states", READ)
    weight = vector_view(&of, gamma, b"gamma", channels, &ONE)
    for_gamma = written_vector(&of, dgamma, b"dgamma", channels)
    for_beta = written_vector(&of, dbeta, b"dbeta", channels)
    check_eps(&of, eps)
    refuse_overlaps(&of)
    check_states(&of, states, channels)
    if of.status != NORMCORE_OK:
        return of.status
    vectors = take(&heap, 3 * channels)
    if vectors == NULL:
        return ended(&of, False)
    done = True
    if set_batches(&of, 3, channel, views):
        read_vector(&weight, vectors)
        done = differentiate_batch(
            &views[0], &views[1], states, vectors, eps, training, &views[2], threads_of(&of),
            vectors + channels,
        )
    if done and of.status == NORMCORE_OK:
        write_vector(&for_gamma, vectors + channels)
        write_vector(&for_beta, vectors + 2 * channels)
    free_all(&heap)
    return ended(&of, done)


cdef view_t written_vector(
    operands_t* of, const normcore_array* array, const char* name, Py_ssize_t size
) noexcept nogil:
    """Describe a vector that is written, if there is one."""
    cdef view_t none
    none.data = NULL
    return none if array == NULL else vector_view(of, array, name, size, NULL, WRITTEN)


cdef int c_batch_norm_inference(
    const normcore_array* x, int32_t axis, const normcore_array* mean, const normcore_array* var,
    const normcore_array* gamma, const normcore_array* beta, double eps, const normcore_array* y,
    normcore_call* call,
) noexcept nogil:
    cdef operands_t of
    cdef view_t views[2]
    cdef view_t vectors[MOST_VECTORS]
    cdef heap_t heap
    cdef double* rows
    cdef Py_ssize_t channels
    cdef int row, channel
    cdef bint done
    begin(&of, call)
    heap.count = 0
    add(&of, x, b"x", MAPPED)
    add_like(&of, y, b"y", RESULT)
    channel = channel_axis(&of, axis)
    channels = size_at(&of, channel)
    vectors[0] = vector_view(&of, mean, b"mean", channels, NULL)
    vectors[1] = vector_view(&of, var, b"var", channels, NULL)
    vectors[2] = vector_view(&of, gamma, b"gamma", channels, &ONE)
    vectors[3] = vector_view(&of, beta, b"beta", channels, &ZERO)
    check_eps(&of, eps)
    refuse_overlaps(&of)
    if of.status != NORMCORE_OK:
        return of.status
    rows = take(&heap, MOST_VECTORS * channels)
    if rows == NULL:
        return ended(&of, False)
    done = True
    for row in range(MOST_VECTORS):
        read_vector(&vectors[row], rows + row * channels)
    check_variances(&of, rows + channels, channels)
    if set_batches(&of, 2, channel, views):
        done = map_by_statistics(
            &views[0], rows, rows + channels, rows + 2 * channels, rows + 3 * channels, eps,
            &views[1], threads_of(&of),
        )
    free_all(&heap)
    return ended(&of, done)


# -- rows -----------------------------------------------------------------------------------


cdef int c_row_norm(
    const normcore_array* x, int32_t num_axes, int32_t centered, const normcore_array* gamma,
    const normcore_array* beta, double eps, const normcore_array* y, double* states,
    normcore_call* call,
) noexcept nogil:
    cdef operands_t of
    cdef view_t views[2]
    cdef view_t weight, shift
    cdef const Py_ssize_t* sizes = of.each[0].memory.sizes
    begin(&of, call)
    add(&of, x, b"x", MAPPED)
    add_like(&of, y, b"y", RESULT)
    if not merge_samples(&of, 2, num_axes):
        return of.status
    weight = vector_view(&of, gamma, b"gamma", sizes[1], &ONE)
    shift = vector_view(&of, beta, b"beta", sizes[1], &ZERO)
    add_doubles(&of, states, MOMENTS_ROWS * sizes[0], b"states", WRITTEN)
    check_eps(&of, eps)
    refuse_overlaps(&of)
    if of.status != NORMCORE_OK or sizes[0] == 0:
        return of.status
    set_samples(&of, 2, views)
    return ended(&of, normalize_samples(
        &views[0], &weight, &shift, &views[1], eps, centered, threads_of(&of), states
    ))


cdef int c_row_norm_backward(
    const normcore_array* dy, const normcore_array* x, int32_t num_axes, int32_t centered,
    const double* states, const normcore_array* gamma, double eps, const normcore_array* dx,
    const normcore_array* dgamma, const normcore_array* dbeta, normcore_call* call,
) noexcept nogil:
    cdef operands_t of
    cdef view_t views[3]
    cdef view_t weight, for_gamma, for_beta
    cdef const Py_ssize_t* sizes = of.each[0].memory.sizes
    cdef heap_t heap
    cdef double* gradients
    cdef bint done = True
    begin(&of, call)
    heap.count = 0
    add(&of, dy, b"dy", MAPPED)
    add_like(&of, x, b"x", MAPPED)
    add_like(&of, dx, b"dx", RESULT)
    if not merge_samples(&of, 3, num_axes):
        return of.status
    weight = vector_view(&of, gamma, b"gamma", sizes[1], &ONE)
    add_doubles(&of, states, MOMENTS_ROWS * sizes[0], b"states", READ)
    for_gamma = written_vector(&of, dgamma, b"dgamma", sizes[1])
    for_beta = written_vector(&of, dbeta, b"dbeta", sizes[1])
    check_eps(&of, eps)
    refuse_overlaps(&of)
    check_states(&of, states, sizes[0])
    if of.status != NORMCORE_OK:
        return of.status
    gradients = take(&heap, 2 * sizes[1])
    if gradients == NULL:
        return ended(&of, False)
    if sizes[0]:
        set_samples(&of, 3, views)
        done = differentiate_samples(
            &views[0], &views[1], states, &weight, &views[2], eps, centered, threads_of(&of),
            gradients,
        )
    if done:
        write_vector(&for_gamma, gradients)
        write_vector(&for_beta, gradients + sizes[1])
    free_all(&heap)
    return ended(&of, done)


# -- the table ------------------------------------------------------------------------------

cdef normcore_api api

api.size, api.version = sizeof(normcore_api), NORMCORE_VERSION
api.moments, api.merge, api.summarize, api.given = c_moments, c_merge, c_summarize, c_given
api.rescale = c_rescale
api.batch_norm, api.batch_norm_backward = c_batch_norm, c_batch_norm_backward
api.batch_norm_inference = c_batch_norm_inference
api.row_norm, api.row_norm_backward = c_row_norm, c_row_norm_backward
api.running = c_running  # since version 2
api.weighted_moments = c_weighted_moments  # since version 3
api.group_norm, api.group_norm_backward = c_group_norm, c_group_norm_backward

#: The table of the functions, as normcore.h describes it.
c_functions = PyCapsule_New(&api, b"normcore.c_api.capsule", NULL)
