/* Objects that all threads use, taken out of reference counting.
 *
 * Without the GIL, a count that several threads change is a line of memory that their processors
 * take from each other, some hundred times for one row that is scaled. Python does the same to its
 * own constants, and setting a count beyond its range is its way to ask for it. Only the thread
 * that made an object may ask: others would race with it. With the GIL, nothing happens.
 */
#ifndef NORMCORE_IMMORTAL_H
#define NORMCORE_IMMORTAL_H

#include <Python.h>

#if defined(Py_GIL_DISABLED) && SIZEOF_VOID_P > 4
#define is_own(object) _Py_IsOwnedByCurrentThread(object)
#define set_beyond_range(object) Py_SET_REFCNT(object, (Py_ssize_t)UINT32_MAX + 1)
#else
#define is_own(object) ((void)(object), 0)
#define set_beyond_range(object) ((void)(object))
#endif

static void make_immortal(PyObject *object)
{
    if (is_own(object)) set_beyond_range(object);
}

#endif
