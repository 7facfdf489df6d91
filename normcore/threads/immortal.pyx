# Design: what all threads use is taken out of reference counting where there is no GIL, once, when
# it has been imported: functions, classes and what is in them, modules and the names in them. It
# is never freed after that, and a module would not be. What may be replaced stays counted: lists,
# dicts, sets and whatever else is written to. With the GIL these functions do nothing.

import sys

__all__ = ["make_immortal", "make_modules_immortal"]

cdef extern from "immortal.h":
    bint is_own(object)
    void _make_immortal "make_immortal"(object)

cdef tuple CHANGING = (bytearray, dict, list, set)
cdef set done = set()  # names of modules, and classes
cdef bint is_needed = not getattr(sys, "_is_gil_enabled", lambda: True)()


def make_immortal(*objects):
    """Take objects out of reference counting, which will then be there until Python ends."""
    if is_needed:
        for each in objects:
            _make_immortal(each)


def make_modules_immortal():
    """Take the modules of normcore and its plugins, and what they hold, out of reference counting.

    Each is looked at once, by the thread that imported it: this is to be called after imports.
    """
    if not is_needed:
        return
    for name in [each for each in sys.modules if each.startswith("normcore")]:
        module = sys.modules[name]
        if name in done or module is None or is_importing(module) or not is_own(vars(module)):
            continue
        done.add(name)
        _make_immortal(module)
        make_values_immortal(vars(module))


cdef bint is_importing(module):
    return getattr(getattr(module, "__spec__", None), "_initializing", False)


cdef make_values_immortal(namespace):
    """Take the values of a module or class out, and those of the classes among them."""
    for value in list(namespace.values()):
        if isinstance(value, CHANGING):
            continue
        _make_immortal(value)
        if isinstance(value, type) and value not in done:
            if str(value.__module__).startswith("normcore"):
                done.add(value)
                make_values_immortal(vars(value))
