/* normcore.h: normcore's kernels for callers in C, C++ and Cython, over plain memory.
 *
 * The functions are members of a table, normcore_api, which a Python process hands out once:
 * normcore_import() fetches it, with the GIL held. After that nothing here needs Python: functions
 * are called from any thread, with or without the GIL. docs/c-api.md describes them in full.
 */
#ifndef NORMCORE_H
#define NORMCORE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of the table that this header describes. Versions only add to its end. */
#define NORMCORE_VERSION 3

/* The oldest version that a program can work with: one that asks NORMCORE_HAS of what came later
 * may define it lower. */
#ifndef NORMCORE_MIN_VERSION
#define NORMCORE_MIN_VERSION NORMCORE_VERSION
#endif

/* What functions return. Where it is not NORMCORE_OK, the call's message says what is wrong. */
enum {
    NORMCORE_OK = 0,
    NORMCORE_NULL_POINTER = 1,
    NORMCORE_BAD_DTYPE = 2,
    NORMCORE_BAD_SHAPE = 3,   /* negative sizes, too many axes, sizes that do not fit others */
    NORMCORE_BAD_STRIDES = 4, /* not aligned, or not one run of outer and of inner positions */
    NORMCORE_TOO_LARGE = 5,   /* more bytes than memory has */
    NORMCORE_OVERLAP = 6,     /* a result shares memory with another array, or with itself */
    NORMCORE_BAD_VALUE = 7,
    NORMCORE_NO_MEMORY = 8, /* results may be partly written */
    NORMCORE_OLD_LIBRARY = 9
};

/* Kinds of elements, in native byte order. */
enum { NORMCORE_FLOAT16 = 1, NORMCORE_FLOAT32 = 2, NORMCORE_FLOAT64 = 3, NORMCORE_BFLOAT16 = 4 };

#define NORMCORE_MAX_AXES 8

/* The float64 of a state of moments, for each channel. */
#define NORMCORE_STATE_ROWS 7

/* In the place of a channel axis: all elements are one channel. */
#define NORMCORE_ALL INT32_MIN

/* An array; the caller owns all of it. */
typedef struct normcore_array {
    void *data;             /* the element with all indices 0 */
    const int64_t *sizes;   /* one for each axis */
    const int64_t *strides; /* in bytes; NULL where elements follow one another in C order */
    int32_t ndim;           /* 0 to NORMCORE_MAX_AXES */
    int32_t dtype;          /* NORMCORE_FLOAT32 ... */
} normcore_array;

#define NORMCORE_MESSAGE_SIZE 252

/* How a function is called, and what it answers in words; its caller's own, or NULL for neither.
 * Two threads use two of them. */
typedef struct normcore_call {
    int32_t num_threads;                 /* 0: as many as normcore.set_num_threads says */
    char message[NORMCORE_MESSAGE_SIZE]; /* ends with 0; empty after NORMCORE_OK */
} normcore_call;

/* The functions. Vectors have an element for each channel (or for each element of a row): arrays
 * of any dtype, of one axis or in C order. NULL for gamma stands for 1, NULL for beta for 0.
 * `states` are float64, NORMCORE_STATE_ROWS rows of one for each channel (or row of x). */
typedef struct normcore_api {
    size_t size;      /* of this table in bytes, as the library has it */
    uint32_t version; /* of this table, as the library has it */
    uint32_t reserved;

    /* Find the state of the moments of each channel; NaN is left out if skipna is not 0. */
    int (*moments)(const normcore_array *x, int32_t axis, int32_t skipna, double *states,
                   normcore_call *call);

    /* Merge states into others: the moments of both, in any order and grouping. */
    int (*merge)(int64_t channels, double *states, const double *others, normcore_call *call);

    /* Read states: the count, the mean and the variance with a divisor of count - ddof; each may
     * be NULL. */
    int (*summarize)(int64_t channels, const double *states, double ddof, double *count,
                     double *mean, double *var, normcore_call *call);

    /* Make states of given statistics, of one value, for the backward pass of inference. */
    int (*given)(int64_t channels, const double *mean, const double *var, double *states,
                 normcore_call *call);

    /* y = ((x - center) / scale) * gamma + beta; y may be x. */
    int (*rescale)(const normcore_array *x, int32_t axis, const normcore_array *center,
                   const normcore_array *scale, const normcore_array *gamma,
                   const normcore_array *beta, const normcore_array *y, normcore_call *call);

    /* Normalize each channel by the moments of this batch, which `states` keep; y may be x. */
    int (*batch_norm)(const normcore_array *x, int32_t axis, const normcore_array *gamma,
                      const normcore_array *beta, double eps, const normcore_array *y,
                      double *states, normcore_call *call);

    /* Its gradients: dx may be dy or x; dgamma and dbeta may be NULL. If training is 0, the
     * statistics did not depend on x. */
    int (*batch_norm_backward)(const normcore_array *dy, const normcore_array *x, int32_t axis,
                               const double *states, int32_t training, const normcore_array *gamma,
                               double eps, const normcore_array *dx, const normcore_array *dgamma,
                               const normcore_array *dbeta, normcore_call *call);

    /* Normalize each channel by given statistics; y may be x. */
    int (*batch_norm_inference)(const normcore_array *x, int32_t axis, const normcore_array *mean,
                                const normcore_array *var, const normcore_array *gamma,
                                const normcore_array *beta, double eps, const normcore_array *y,
                                normcore_call *call);

    /* Normalize each row, which the last num_axes axes are, by its own moments: layer norm, or
     * RMS norm if centered is 0; y may be x. */
    int (*row_norm)(const normcore_array *x, int32_t num_axes, int32_t centered,
                    const normcore_array *gamma, const normcore_array *beta, double eps,
                    const normcore_array *y, double *states, normcore_call *call);

    /* Its gradients: dx may be dy or x; dgamma and dbeta may be NULL. */
    int (*row_norm_backward)(const normcore_array *dy, const normcore_array *x, int32_t num_axes,
                             int32_t centered, const double *states, const normcore_array *gamma,
                             double eps, const normcore_array *dx, const normcore_array *dgamma,
                             const normcore_array *dbeta, normcore_call *call);

    /* Since version 2. Move running averages towards the mean and the variance of a batch, with a
     * divisor of count - ddof: weight * batch + (1 - weight) * average. Channels without such a
     * variance keep theirs. */
    int (*running)(int64_t channels, const double *states, double weight, double ddof, double *mean,
                   double *var, normcore_call *call);

    /* Since version 3. Find moments in which each element counts as often as its weight says: an
     * array of the axes of x but the channels'. What weighs 0 does not count, whatever it is. */
    int (*weighted_moments)(const normcore_array *x, int32_t axis, const normcore_array *weights,
                            int32_t skipna, double *states, normcore_call *call);

    /* Since version 3. Normalize groups of neighbouring channels of each sample by their own
     * moments; with as many groups as channels, instance norm. Samples are along the first axis
     * that is not the channels', and in C order, channels first. `states` have a column for each
     * group, sample by sample; y may be x. */
    int (*group_norm)(const normcore_array *x, int32_t axis, int64_t num_groups,
                      const normcore_array *gamma, const normcore_array *beta, double eps,
                      const normcore_array *y, double *states, normcore_call *call);

    /* Its gradients: dx may be dy or x; dgamma and dbeta may be NULL. */
    int (*group_norm_backward)(const normcore_array *dy, const normcore_array *x, int32_t axis,
                               int64_t num_groups, const double *states,
                               const normcore_array *gamma, double eps, const normcore_array *dx,
                               const normcore_array *dgamma, const normcore_array *dbeta,
                               normcore_call *call);
} normcore_api;

/* Whether a library has a function, which may be newer than NORMCORE_MIN_VERSION. */
#define NORMCORE_HAS(api, function) \
    (offsetof(normcore_api, function) + sizeof((api)->function) <= (api)->size)

/* Whether a table serves this program; a caller that did not get it by normcore_import asks. */
static inline int normcore_check(const normcore_api *api, normcore_call *call)
{
    int status = NORMCORE_OK;
    char unread[NORMCORE_MESSAGE_SIZE];
    char *message = call ? call->message : unread;
    message[0] = 0;
    if (!api) {
        status = NORMCORE_NULL_POINTER;
        snprintf(message, NORMCORE_MESSAGE_SIZE, "there is no table of normcore's functions");
    } else if (api->version < NORMCORE_MIN_VERSION) {
        status = NORMCORE_OLD_LIBRARY;
        snprintf(message, NORMCORE_MESSAGE_SIZE,
                 "normcore has version %lu of its table of functions, and this program needs "
                 "version %lu: install a newer normcore-arrays",
                 (unsigned long)api->version, (unsigned long)NORMCORE_MIN_VERSION);
    }
    return status;
}

#ifdef Py_PYTHON_H
/* Return the table, which lives as long as the process; or NULL with an exception of Python's.
 * The GIL is held, and Python.h is included before this header. */
static inline const normcore_api *normcore_import(void)
{
    const normcore_api *api = NULL;
    normcore_call call;
    PyObject *capsule = NULL, *module = PyImport_ImportModule("normcore.c_api");
    if (module) {
        capsule = PyObject_GetAttrString(module, "capsule");
        Py_DECREF(module);
    }
    if (capsule) {
        api = (const normcore_api *)PyCapsule_GetPointer(capsule, "normcore.c_api.capsule");
        Py_DECREF(capsule);
    }
    if (api && normcore_check(api, &call) != NORMCORE_OK) {
        PyErr_SetString(PyExc_ImportError, call.message);
        api = NULL;
    }
    return api;
}
#endif

#ifdef __cplusplus
}
#endif

#endif
