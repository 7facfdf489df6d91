# Design: lanes.h and nontemporal.h as Cython sees them. A vector is declared as the number that one
# of its lanes is, so that arithmetic is written with operators; comparisons and conversions are the
# functions.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "lanes.h" nogil:
    enum:
        LANES
        LINE
        WIDTH
        PACK
        ABREAST
    ctypedef double lanes_t
    ctypedef uint64_t longs_t
    ctypedef float floats_t
    ctypedef uint32_t words_t
    ctypedef float pack_t
    ctypedef uint32_t packed_t

    double* aligned(void* memory)
    lanes_t splat(double value)
    longs_t splat_long(uint64_t value)

    lanes_t load_double(const double* source)
    lanes_t load_float(const float* source)
    longs_t load_long(const uint64_t* source)
    void store_double(double* target, lanes_t v)
    void store_float(float* target, lanes_t v)
    void store_long(uint64_t* target, longs_t v)

    floats_t narrow(lanes_t v)
    void store_floats(float* target, floats_t v)
    longs_t bits_of(lanes_t v)

    words_t differing_bits(floats_t a, floats_t b)
    bint any_word(words_t bits)
    lanes_t near_sum(lanes_t a, lanes_t b, lanes_t c)
    lanes_t signed_to_double(longs_t v)
    longs_t less(lanes_t a, lanes_t b)
    longs_t less_equal(lanes_t a, lanes_t b)
    longs_t equal(lanes_t a, lanes_t b)
    lanes_t keep(longs_t mask, lanes_t v)
    lanes_t blend(longs_t mask, lanes_t a, lanes_t b)
    lanes_t min_lanes(lanes_t a, lanes_t b)
    lanes_t max_lanes(lanes_t a, lanes_t b)
    lanes_t magnitude_of(lanes_t v)
    bint any_set(longs_t mask)
    pack_t splat_pack(float value)
    pack_t load_pack(const float* source)
    void store_pack(float* target, pack_t v)
    pack_t min_pack(pack_t a, pack_t b)
    pack_t max_pack(pack_t a, pack_t b)
    lanes_t choose_lanes(const uint8_t* mask, lanes_t a, lanes_t b)
    pack_t choose_pack(const uint8_t* mask, pack_t a, pack_t b)
    longs_t count_pack(longs_t count, pack_t v)
    packed_t load_packed(const uint32_t* source)
    void store_packed(uint32_t* target, packed_t v)
    packed_t min_bits(packed_t least, const float* source)
    bint any_below(packed_t a, packed_t b)

cdef extern from "nontemporal.h" nogil:
    void store_double_nontemporal(double* target, lanes_t v)
    void store_float_nontemporal(float* target, lanes_t v)
    void store_floats_nontemporal(float* target, floats_t v)
    void store_pack_nontemporal(float* target, pack_t v)
    void fence()


# The dtypes that are read and written directly.
ctypedef fused real:
    float
    double


cdef inline lanes_t load(const real* source) noexcept nogil:
    if real is float:
        return load_float(source)
    else:
        return load_double(source)


cdef inline void store(real* target, lanes_t v) noexcept nogil:
    if real is float:
        store_float(target, v)
    else:
        store_double(target, v)


cdef inline void store_nontemporal(real* target, lanes_t v) noexcept nogil:
    if real is float:
        store_float_nontemporal(target, v)
    else:
        store_double_nontemporal(target, v)
