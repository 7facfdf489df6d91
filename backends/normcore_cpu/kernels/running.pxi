# Design: the state of running sums, shared by what begins them (first_look), adds to them
# (running_sums) and ends them (running_totals).


# The sums of 16 lanes since their center was chosen.
cdef struct sums_t:
    uint64_t fixed[LANES]       # of (x - grid_center) / quantum, and rows times the bits of both
    double square_hi[LANES]     # of (x - center)**2
    double square_lo[LANES]
    uint32_t least[LANES]       # twice the bits of the least magnitude that is not 0, less 1
    double rest_hi[LANES]       # of what is below the quantum, in multiples of a finer one,
    double rest_lo[LANES]       # and of what is below that
    uint64_t count[LANES]       # of numbers, where NaN is skipped

cdef struct running_t:
    sums_t sums
    double center[LANES]
    double grid[LANES]          # 1.5 * 2**(exponent + 1)
    double grid_center[LANES]   # the center, rounded to the grid
    double quantum[LANES]       # 2**(exponent - 51)
    double bound[LANES]         # of the squares of a tile, so that magnitudes are below 2**exponent
    uint32_t threshold[LANES]   # of `least`, so that nothing is below the quantum
    double total_hi[LANES]      # of x - grid_center, from the sums that are no longer in `fixed`
    double total_lo[LANES]
    sums_t before               # the sums without the tile in work, fit or not
    Py_ssize_t group
    Py_ssize_t rows             # in sums.fixed
    Py_ssize_t all_rows
    bint one_channel            # whose lanes share center and quantum
    bint started                # center and quantum are chosen ...
    bint fresh                  # ... by all of the tile in work
    bint thorough               # a sample of the tile did not tell enough
    bint fits                   # there are a center and a quantum for the tile in work
    bint may_skip, skipna       # NaN
    bint rests                  # are looked for in float32, too
    uint64_t _                  # so that the next one begins on a line of the cache, too
