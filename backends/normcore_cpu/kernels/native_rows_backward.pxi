# Design: the backward pass of layer and RMS norm in native precision. Of a row, q = dy * (x -
# center) serves its own sum of gamma * q and, times 1 / scale, the sums of the columns; all of them
# are float64. Then dx = (dy * gamma) * a - ((x - c) * d + b) in float32, from L1; a row whose
# coefficients are beyond what float32 can hold is written in float64.
#
# A range of rows has column sums of its own, and ranges are added up in order: they depend on the
# shape alone, so the bits do too.

cdef enum:
    MAX_RANGES = 64
    RANGE_ROWS = 16     # of a range, at least
    PAIR = 2            # rows in work at once


# What is known of a row in work.
cdef struct row_t:
    const float* dy
    const float* x
    row_scale_t scale
    double factor               # 1 / scale
    double sums[2 * CHAINS]     # of gamma * dy, and of gamma * dy * (x - center)


cdef inline void add_rows_abreast(
    row_t* rows, Py_ssize_t number, Py_ssize_t columns, const double* gamma, double* dgamma,
    double* dbeta,
) noexcept nogil:
    """Add some rows to the sums of the columns, and each to the lanes of its own sums."""
    cdef lanes_t total[PAIR][CHAINS]
    cdef lanes_t products[PAIR][CHAINS]
    cdef lanes_t mean[PAIR]
    cdef lanes_t factor[PAIR]
    cdef lanes_t g, q, weight, sum_dgamma, sum_dbeta
    cdef double upstream, product
    cdef Py_ssize_t i = 0, k, at, row
    for row in range(number):
        mean[row], factor[row] = splat(rows[row].scale.center), splat(rows[row].factor)
        for k in range(CHAINS // WIDTH):
            total[row][k] = products[row][k] = splat(0.0)
    while i + CHAINS <= columns:
        for k in range(CHAINS // WIDTH):
            at = i + k * WIDTH
            weight = load_double(gamma + at)
            sum_dgamma, sum_dbeta = load_double(dgamma + at), load_double(dbeta + at)
            for row in range(number):
                g = load_float(rows[row].dy + at)
                q = g * (load_float(rows[row].x + at) - mean[row])
                sum_dbeta = sum_dbeta + g
                sum_dgamma = sum_dgamma + q * factor[row]
                total[row][k] = total[row][k] + g * weight
                products[row][k] = products[row][k] + q * weight
            store_double(dgamma + at, sum_dgamma)
            store_double(dbeta + at, sum_dbeta)
        i += CHAINS
    for row in range(number):
        for k in range(CHAINS // WIDTH):
            store_double(rows[row].sums + k * WIDTH, total[row][k])
            store_double(rows[row].sums + CHAINS + k * WIDTH, products[row][k])
        for k in range(columns - i):
            upstream = rows[row].dy[i + k]
            product = upstream * (rows[row].x[i + k] - rows[row].scale.center)
            dbeta[i + k] += upstream
            dgamma[i + k] += product * rows[row].factor
            rows[row].sums[k] += upstream * gamma[i + k]
            rows[row].sums[CHAINS + k] += product * gamma[i + k]


cdef inline void differentiate_row(
    const float* dy, const float* x, float* dx, Py_ssize_t columns, const float* gamma,
    float_gradient_t m, bint nontemporal,
) noexcept nogil:
    """Write dx of a row; it may be dy or x itself."""
    cdef pack_t c = splat_pack(m.center), a = splat_pack(m.a), b = splat_pack(m.b)
    cdef pack_t d = splat_pack(m.d), v
    cdef Py_ssize_t i = 0
    while i + PACK <= columns:
        v = load_pack(dy + i) * load_pack(gamma + i) * a - ((load_pack(x + i) - c) * d + b)
        if nontemporal:
            store_pack_nontemporal(dx + i, v)
        else:
            store_pack(dx + i, v)
        i += PACK
    for i in range(i, columns):
        dx[i] = dy[i] * gamma[i] * m.a - ((x[i] - m.center) * m.d + m.b)


cdef class NormalizeRowsBackwardTask(RowsTask):
    cdef view_t dy
    cdef const double* states
    cdef double* sums               # (ranges, 2, D): of dgamma and of dbeta
    cdef Py_ssize_t ranges

    def __init__(self, dy, x, states, gamma, out, double eps, bint centered):
        self.begin(x, gamma, out, eps, centered)
        self.dy = self.view(dy)
        self.ranges = max(1, min(self.num_rows // RANGE_ROWS, <Py_ssize_t> MAX_RANGES))
        sums = np.zeros((self.ranges, 2, self.columns))
        self.arrays += [states, sums]
        self.states, self.sums = doubles_of(states), doubles_of(sums)

    cdef void work(self, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
        cdef float* copies = self.buffers(3 * PAIR)
        cdef Py_ssize_t part, row, last
        if copies == NULL:
            self.out_of_memory = True
            return
        for part in range(start, stop):
            row = self.num_rows * part // self.ranges
            last = self.num_rows * (part + 1) // self.ranges
            while row < last:
                self.differentiate(
                    row, min(last - row, <Py_ssize_t> PAIR), self.sums + 2 * part * self.columns,
                    copies,
                )
                row += PAIR
        fence()
        free(copies)

    cdef void differentiate(
        self, Py_ssize_t first, Py_ssize_t number, double* dgamma, float* copies
    ) noexcept nogil:
        """Add some rows to all sums, and write their dx."""
        cdef row_t rows[PAIR]
        cdef moments_t m
        cdef Py_ssize_t row
        for row in range(number):
            m = load_moments(self.states + first + row, self.num_rows)
            rows[row].scale = row_scale(&m, self.eps, self.centered)
            rows[row].factor = 1.0 / rows[row].scale.scale
            rows[row].dy = gathered_row(&self.dy, first + row, copies)
            rows[row].x = gathered_row(&self.x, first + row, copies + self.columns)
            copies += 2 * self.columns
        if number == PAIR:
            add_rows_abreast(
                rows, PAIR, self.columns, self.gamma, dgamma, dgamma + self.columns
            )
        else:
            add_rows_abreast(rows, 1, self.columns, self.gamma, dgamma, dgamma + self.columns)
        for row in range(number):
            self.write(first + row, &rows[row], copies)

    cdef void write(self, Py_ssize_t row, row_t* at, float* copy) noexcept nogil:
        """Write dx of a row."""
        cdef double factor = at.factor, b = 0.0, d
        cdef float* dx = copy
        cdef float_gradient_t map
        if self.centered:
            b = factor * (sum_of(at.sums) / self.columns)
        d = factor * (sum_of(at.sums + CHAINS) / self.columns)
        d = d / (at.scale.scale * at.scale.scale)
        map = float_gradient_of(at.scale.center, factor, b, d)
        if has_rows(&self.out):
            dx = <float*> row_of(&self.out, row)
        if not (map.tame and self.tame):
            self.differentiate_wide(at.dy, at.x, dx, at.scale.center, factor, b, d)
        elif (
            self.is_nontemporal() and self.out.data != self.x.data
            and self.out.data != self.dy.data
        ):
            differentiate_row(at.dy, at.x, dx, self.columns, self.narrow_gamma, map, True)
        else:
            differentiate_row(at.dy, at.x, dx, self.columns, self.narrow_gamma, map, False)
        if not has_rows(&self.out):
            scatter_row(&self.out, row, dx)

    cdef void differentiate_wide(
        self, const float* dy, const float* x, float* dx, double center, double a, double b,
        double d,
    ) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(self.columns):
            dx[i] = <float> (a * (dy[i] * self.gamma[i]) - (b + d * (x[i] - center)))

    cdef object column_sums(self):
        """Add up the ranges: dgamma and dbeta."""
        cdef Py_ssize_t part, i
        result = np.zeros((2, self.columns))
        cdef double* total = doubles_of(result)
        for part in range(self.ranges):
            for i in range(2 * self.columns):
                total[i] += self.sums[2 * part * self.columns + i]
        return result


def native_normalize_rows_backward(dy, x, states, gamma, out, double eps, bint centered=True):
    """Do what `normalize_rows_backward` does, of float32 arrays."""
    cdef NormalizeRowsBackwardTask task = NormalizeRowsBackwardTask(
        dy, x, states, as_doubles(gamma), out, eps, centered
    )
    task.spread(task.ranges)
    result = task.column_sums()
    return result[0], result[1]
