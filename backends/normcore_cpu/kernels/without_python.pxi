# Design: normalizations for callers without Python, such as those of normcore.h: the same kernels,
# on views of memory, with vectors of float64. They allocate what they need beside what the caller
# gives, and answer False where there is none; results may then be partly written.


cdef bint normalize_batch(
    const view_t* x, const double* gamma, const double* beta, double eps, const view_t* out,
    int num_threads, double* states,
) noexcept nogil:
    """Normalize each channel with its own moments, whose state (7, C) is set, too."""
    cdef Py_ssize_t channels = x.channels
    cdef heap_t heap
    cdef bint done
    heap.count = 0
    cdef double* affine = take(&heap, COEFFICIENTS * channels)
    if affine == NULL:
        return False
    done = observe_moments(x, False, False, num_threads, states)
    if done:
        set_means(states, channels, affine + CENTER * channels)
        set_scales(states, channels, eps, affine + SCALE * channels)
        memcpy(affine + GAMMA * channels, gamma, channels * sizeof(double))
        memcpy(affine + BETA * channels, beta, channels * sizeof(double))
        done = map_channels(x, affine, out, num_threads)
    free_all(&heap)
    return done


cdef bint differentiate_batch(
    const view_t* dy, const view_t* x, const double* states, const double* gamma, double eps,
    bint training, const view_t* out, int num_threads, double* gradients,
) noexcept nogil:
    """Write dx of `normalize_batch`, and dgamma and dbeta, (2, C)."""
    cdef Py_ssize_t channels = x.channels
    cdef heap_t heap
    cdef bint done
    heap.count = 0
    cdef double* affine = take(&heap, COEFFICIENTS * channels)
    cdef double* vectors = take(&heap, FORWARD * channels)
    cdef double* sums = take(&heap, 2 * channels)
    done = affine != NULL and vectors != NULL and sums != NULL
    if done:
        set_means(states, channels, affine + CENTER * channels)
        set_scales(states, channels, eps, affine + SCALE * channels)
        memcpy(affine + GAMMA * channels, gamma, channels * sizeof(double))
        memcpy(vectors + MEAN * channels, affine + CENTER * channels, channels * sizeof(double))
        done = reduce_backward(dy, x, vectors, num_threads, sums)
    if done:
        set_gradients(
            states, affine, sums, channels, training, vectors, gradients, gradients + channels
        )
        done = differentiate_channels(dy, x, vectors, out, num_threads)
    free_all(&heap)
    return done


cdef bint map_by_statistics(
    const view_t* x, const double* mean, const double* var, const double* gamma,
    const double* beta, double eps, const view_t* out, int num_threads,
) noexcept nogil:
    """Normalize each channel with given statistics."""
    cdef Py_ssize_t c, channels = x.channels
    cdef heap_t heap
    cdef bint done
    heap.count = 0
    cdef double* affine = take(&heap, COEFFICIENTS * channels)
    if affine == NULL:
        return False
    memcpy(affine + CENTER * channels, mean, channels * sizeof(double))
    for c in range(channels):
        affine[SCALE * channels + c] = sqrt(var[c] + eps)
    memcpy(affine + GAMMA * channels, gamma, channels * sizeof(double))
    memcpy(affine + BETA * channels, beta, channels * sizeof(double))
    done = map_channels(x, affine, out, num_threads)
    free_all(&heap)
    return done


cdef model_t rows_model = model_of(NormalizeRowsTask.__new__(NormalizeRowsTask))
cdef model_t long_rows_model = model_of(NormalizeLongRowsTask.__new__(NormalizeLongRowsTask))
cdef model_t rows_backward_model = model_of(
    NormalizeRowsBackwardTask.__new__(NormalizeRowsBackwardTask)
)
cdef model_t long_rows_backward_model = model_of(
    NormalizeLongRowsBackwardTask.__new__(NormalizeLongRowsBackwardTask)
)


cdef bint normalize_samples(
    const view_t* x, const view_t* gamma, const view_t* beta, const view_t* out, double eps,
    bint centered, int num_threads, double* states,
) noexcept nogil:
    """Normalize each row by its own moments, whose state (7, N) is set, too."""
    cdef void* task = copy_of(&long_rows_model if x.channels > LONG_ROW else &rows_model)
    cdef bint done
    if task == NULL:
        return False
    done = (<NormalizeRowsTask> task).run_for(
        x, gamma, beta, out, eps, centered, num_threads, states
    )
    free_all(&(<NormalizeRowsTask> task).heap)
    free(task)
    return done


cdef bint differentiate_samples(
    const view_t* dy, const view_t* x, const double* states, const view_t* gamma,
    const view_t* out, double eps, bint centered, int num_threads, double* gradients,
) noexcept nogil:
    """Write dx of `normalize_samples`, and dgamma and dbeta, (2, D)."""
    cdef void* task = copy_of(
        &long_rows_backward_model if x.channels > LONG_ROW else &rows_backward_model
    )
    cdef bint done
    if task == NULL:
        return False
    done = (<NormalizeRowsBackwardTask> task).run_for(
        dy, x, states, gamma, out, eps, centered, num_threads, gradients
    )
    free_all(&(<NormalizeRowsBackwardTask> task).heap)
    free(task)
    return done
