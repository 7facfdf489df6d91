# cython: boundscheck=False, wraparound=False, cdivision=True
# Design: a kernel is a Task with a `visit` for one tile. The tiles of an array are spread over
# the pool in items: a range of positions of a slab of channels, position by position so that
# memory is read in its own order. What is reduced has one state for each range and channel,
# merged in range order afterwards; ranges depend on the shape alone, so the number of threads
# never shows in the bits.

from normcore.threads import run

from normcore_cpu.tiles cimport plan_of, plan_t, tile_at, tile_t, view_of, view_t

__all__ = ["Task"]

# Elements below which another thread costs more than it saves.
cdef Py_ssize_t MIN_ELEMENTS = 1 << 16


cdef class Task:
    """Visit every tile of an array."""

    cdef int begin(self, object x) except -1:
        self.arrays = []
        self.x = self.view(x)
        self.plan = plan_of(&self.x)
        return 0

    cdef view_t view(self, object array, bint plane=False) except *:
        """Describe an array and keep it alive: an interrupted caller may leave before a worker."""
        self.arrays.append(array)
        return view_of(array, plane)

    cdef int spread(self) except -1:
        """Visit all tiles on the shared pool."""
        cdef Py_ssize_t items = self.plan.ranges * self.plan.slabs
        cdef Py_ssize_t elements = self.plan.positions * self.plan.channels
        if elements:
            run(self, items, min_items=max(1, MIN_ELEMENTS * items // elements))
        return 0

    def __call__(self, Py_ssize_t start, Py_ssize_t stop):
        cdef Py_ssize_t item, part, slab, position, group
        cdef const plan_t* plan = &self.plan
        cdef tile_t at
        with nogil:
            for item in range(start, stop):
                part, slab = item // plan.slabs, item % plan.slabs
                for position in range(
                    plan.tiles * part // plan.ranges, plan.tiles * (part + 1) // plan.ranges
                ):
                    for group in range(
                        plan.groups * slab // plan.slabs, plan.groups * (slab + 1) // plan.slabs
                    ):
                        at = tile_at(plan, position, group)
                        self.visit(part, &at)

    cdef void visit(self, Py_ssize_t part, const tile_t* at) noexcept nogil:
        """Work on one tile of a range; tiles of one channel and range come in order."""
