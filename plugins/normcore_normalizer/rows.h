/* Rows divided by their norms, for one element type: included once for each, with REAL the type, BITS
 * the integers of its size, NAME(f) the names of its functions, and DIVIDE(x) the quotient of a
 * value and `norm`.
 *
 * Lanes are arrays of fixed length, which compilers keep in vector registers. Their number and the
 * order of additions are those written here, whatever the registers hold, so every instruction set
 * gives the same bits.
 */

#define SUM(function, term) \
    INLINE double NAME(function)(const REAL *x, ptrdiff_t columns) \
    { \
        double total = 0.0, rest = 0.0; \
        for (ptrdiff_t start = 0; start < columns; start += BLOCK) { \
            ptrdiff_t size = columns - start < BLOCK ? columns - start : BLOCK, i = 0; \
            double few[4] = {0.0, 0.0, 0.0, 0.0}, last = 0.0, v; \
            const REAL *first = x + start; \
            if (size >= LANES) { \
                double sums[LANES]; \
                for (int k = 0; k < LANES; k++) { \
                    v = first[k]; \
                    sums[k] = term; \
                } \
                for (i = LANES; i + LANES <= size; i += LANES) \
                    for (int k = 0; k < LANES; k++) { \
                        v = first[i + k]; \
                        sums[k] += term; \
                    } \
                for (int k = 0; k < 8; k++) sums[k] += sums[k + 8]; \
                for (int k = 0; k < 4; k++) few[k] = sums[k] + sums[k + 4]; \
            } \
            for (; i + 4 <= size; i += 4) \
                for (int k = 0; k < 4; k++) { \
                    v = first[i + k]; \
                    few[k] += term; \
                } \
            for (; i < size; i++) { \
                v = first[i]; \
                last += term; \
            } \
            add(&total, &rest, ((few[0] + few[2]) + (few[1] + few[3])) + last); \
        } \
        return total + rest; \
    }

SUM(absolute_sum, fabs(v))
SUM(square_sum, v *v)

/* The largest absolute value; infinity or NaN where a value is not finite. Without their signs,
 * floats are in the order of their bits, and NaN comes last. */
INLINE double NAME(largest)(const REAL *x, ptrdiff_t columns)
{
    BITS most[LANES] = {0}, bits;
    REAL result;
    ptrdiff_t i = 0;
    for (; i + LANES <= columns; i += LANES)
        for (int k = 0; k < LANES; k++) {
            memcpy(&bits, x + i + k, sizeof bits);
            bits &= ~NAME(sign);
            most[k] = bits > most[k] ? bits : most[k];
        }
    for (int k = 1; k < LANES; k++) most[0] = most[k] > most[0] ? most[k] : most[0];
    for (; i < columns; i++) {
        memcpy(&bits, x + i, sizeof bits);
        bits &= ~NAME(sign);
        most[0] = bits > most[0] ? bits : most[0];
    }
    memcpy(&result, most, sizeof result);
    return result;
}

/* Divides a row of which float64 cannot hold the norm, or the squares: after a power of two. */
static double NAME(divide_scaled)(const REAL *x, REAL *y, ptrdiff_t columns, enum norm_kind kind,
                                  double most)
{
    double scaled, total = 0.0, rest = 0.0, norm;
    int exponent;
    frexp(most, &exponent);
    for (ptrdiff_t i = 0; i < columns; i++) {
        scaled = ldexp((double)x[i], -exponent);
        add(&total, &rest, kind == L1 ? fabs(scaled) : scaled * scaled);
    }
    norm = kind == L1 ? total + rest : sqrt(total + rest);
    for (ptrdiff_t i = 0; i < columns; i++) y[i] = (REAL)(ldexp((double)x[i], -exponent) / norm);
    return ldexp(norm, exponent);
}

/* Writes a row divided by its norm, which is returned: 1 for a row of zeros, NaN for one with a
 * value that is not finite, of which nothing is written. */
INLINE double NAME(normalize)(const REAL *x, REAL *y, ptrdiff_t columns, enum norm_kind kind,
                              bool nontemporal)
{
    double norm, square, inverse;
    if (kind == MAX) {
        norm = NAME(largest)(x, columns);
    } else if (kind == L1) {
        norm = NAME(absolute_sum)(x, columns);
    } else {
        square = NAME(square_sum)(x, columns);
        norm = square >= LEAST_SQUARE && square <= MOST_SQUARE ? sqrt(square) : NAN;
    }
    if (!(norm <= DBL_MAX)) {
        double most = NAME(largest)(x, columns);
        if (!(most <= DBL_MAX)) return NAN;
        if (most != 0.0) return NAME(divide_scaled)(x, y, columns, kind, most);
        norm = 0.0;
    }
    if (norm == 0.0) norm = 1.0;
    inverse = 1.0 / norm;
    (void)inverse;
    if (nontemporal) {
        for (ptrdiff_t i = 0; i < columns; i += LANES) {
            REAL results[LANES];
            for (int k = 0; k < LANES; k++) results[k] = (REAL)(DIVIDE(x[i + k]));
            stream(y + i, results, sizeof results);
        }
    } else {
        IVDEP
        for (ptrdiff_t i = 0; i < columns; i++) y[i] = (REAL)(DIVIDE(x[i]));
    }
    return norm;
}

/* Normalizes rows; returns the first with a value that is not finite, or -1. Rows begin a stride
 * apart, or where `starts` says if that is there. */
CLONES static ptrdiff_t NAME(normalize_rows)(const char *x, ptrdiff_t x_stride, char *y,
                                             ptrdiff_t y_stride, const int64_t *starts,
                                             ptrdiff_t rows, ptrdiff_t columns, enum norm_kind kind,
                                             bool nontemporal, double *norms)
{
    for (ptrdiff_t row = 0; row < rows; row++) {
        ptrdiff_t from = row * x_stride, to = row * y_stride;
        if (starts) {
            from = to = starts[row] * (ptrdiff_t)sizeof(REAL);
            columns = starts[row + 1] - starts[row];
        }
        double norm =
            NAME(normalize)((const REAL *)(x + from), (REAL *)(y + to), columns, kind, nontemporal);
        if (isnan(norm)) return row;
        if (norms) norms[row] = norm;
    }
    return -1;
}

#undef SUM
#undef REAL
#undef BITS
#undef NAME
#undef DIVIDE
