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
    done = observe_moments(x, NULL, False, False, num_threads, states)
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


# -- groups ---------------------------------------------------------------------------------

# Group norm of a block of samples in C order: of x as samples * channels that follow one another,
# and as groups of them. Vectors of channels, gamma and beta, are those of one sample.


cdef view_t grouped(const view_t* x, Py_ssize_t per_group) noexcept nogil:
    """Return what lies there as groups."""
    cdef view_t groups = x[0]
    groups.channels = x.channels // per_group
    groups.length = groups.positions = per_group * x.positions
    groups.channel_stride = per_group * x.channel_stride
    return groups


cdef void spread_groups(double* numbers, Py_ssize_t channels, Py_ssize_t per_group) noexcept nogil:
    """Repeat the numbers of groups, which stand first, for each channel."""
    cdef Py_ssize_t c
    for c in range(channels - 1, -1, -1):
        numbers[c] = numbers[c // per_group]


cdef bint normalize_groups(
    const view_t* x, Py_ssize_t per_group, const double* gamma, const double* beta,
    Py_ssize_t channels, double eps, const view_t* out, int num_threads, double* states,
) noexcept nogil:
    """Normalize each group with its own moments, whose state (7, groups) is set, too."""
    cdef Py_ssize_t c, size = x.channels
    cdef view_t groups = grouped(x, per_group)
    cdef heap_t heap
    cdef bint done
    heap.count = 0
    cdef double* affine = take(&heap, COEFFICIENTS * size)
    if affine == NULL:
        return False
    done = observe_moments(&groups, NULL, False, True, num_threads, states)
    if done:
        set_means(states, groups.channels, affine + CENTER * size)
        set_scales(states, groups.channels, eps, affine + SCALE * size)
        spread_groups(affine + CENTER * size, size, per_group)
        spread_groups(affine + SCALE * size, size, per_group)
        for c in range(size):
            affine[GAMMA * size + c] = gamma[c % channels]
            affine[BETA * size + c] = beta[c % channels]
        done = map_channels(x, affine, out, num_threads)
    free_all(&heap)
    return done


cdef bint differentiate_groups(
    const view_t* dy, const view_t* x, Py_ssize_t per_group, const double* states,
    const double* gamma, Py_ssize_t channels, double eps, const view_t* out, int num_threads,
    double* for_gamma, double* for_beta,
) noexcept nogil:
    """Write dx of `normalize_groups`, and what each channel of each sample adds to gradients."""
    cdef Py_ssize_t c, number = x.channels // per_group, size = x.channels
    cdef double a, count = <double> (per_group * x.positions)
    cdef heap_t heap
    cdef bint done
    heap.count = 0
    cdef double* vectors = take(&heap, (FORWARD + 4) * size)
    if vectors == NULL:
        return False
    cdef double* scale = vectors + FORWARD * size
    cdef double* sums = scale + size
    cdef double* weighted = sums + 2 * size
    set_means(states, number, vectors + MEAN * size)
    set_scales(states, number, eps, scale)
    spread_groups(vectors + MEAN * size, size, per_group)
    spread_groups(scale, size, per_group)
    done = reduce_backward(dy, x, vectors, num_threads, sums)
    if done:
        # With g = gamma * dy: dx = (g - mean(g) - xhat * mean(g * xhat)) / scale in a group.
        for c in range(size):
            weighted[c] = gamma[c % channels] * sums[c]
        for c in range(number):
            vectors[B * size + c] = sum_in_pairs(weighted + c * per_group, per_group) / count
        for c in range(size):
            weighted[c] = gamma[c % channels] * sums[size + c]
        for c in range(number):
            vectors[D * size + c] = sum_in_pairs(weighted + c * per_group, per_group) / count
        spread_groups(vectors + B * size, size, per_group)
        spread_groups(vectors + D * size, size, per_group)
        for c in range(size):
            a = scale[c]
            vectors[A * size + c] = gamma[c % channels] / a
            vectors[B * size + c] = vectors[B * size + c] / a
            vectors[D * size + c] = vectors[D * size + c] / a / (a * a)
            for_gamma[c] = sums[size + c] / a
            for_beta[c] = sums[c]
        done = differentiate_channels(dy, x, vectors, out, num_threads)
    free_all(&heap)
    return done


cdef double sum_in_pairs(const double* values, Py_ssize_t number) noexcept nogil:
    """Return a sum, taken in the order of NumPy's pairwise summation."""
    cdef double lanes[8]
    cdef double total = 0.0
    cdef Py_ssize_t i, j, half
    if number < 8:
        for i in range(number):
            total += values[i]
        return total
    if number > 128:
        half = number // 16 * 8
        return sum_in_pairs(values, half) + sum_in_pairs(values + half, number - half)
    for j in range(8):
        lanes[j] = values[j]
    i = 8
    while i + 8 <= number:
        for j in range(8):
            lanes[j] += values[i + j]
        i += 8
    total = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + (
        (lanes[4] + lanes[5]) + (lanes[6] + lanes[7])
    )
    for j in range(i, number):
        total += values[j]
    return total


# -- rows -----------------------------------------------------------------------------------

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
