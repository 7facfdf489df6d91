/* What a thread asks of its processor and of the system: a moment's rest, and where to wake.
 *
 * Where all processors of a virtual machine sleep, Linux queues a thread that is woken on its
 * waker's, since one that sleeps counts as taken away by the host; a worker would come when it is
 * too late to help. Elsewhere than on Linux there is nothing to be done, and nothing is.
 */
#ifndef NORMCORE_PLACING_H
#define NORMCORE_PLACING_H

/* Leave the core to its other thread for a moment. */
#if defined(__x86_64__) && defined(__GNUC__)
#define relax() __builtin_ia32_pause()
#elif defined(__aarch64__) && defined(__GNUC__)
#define relax() __asm__ volatile("isb")
#else
#define relax() ((void)0)
#endif

#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef struct { pid_t thread; int narrowed; cpu_set_t usual, others; } place_t;

#define current_cpu() sched_getcpu()

static void begin_place(place_t *place)
{
    place->thread = syscall(SYS_gettid);
    place->narrowed = 0;
}

/* Have a thread wake on another processor than the caller's, if it may. */
static void place_elsewhere(place_t *place)
{
    int here = sched_getcpu();
    if (here < 0 || sched_getaffinity(place->thread, sizeof place->usual, &place->usual))
        return;
    place->others = place->usual;
    CPU_CLR(here, &place->others);
    if (CPU_COUNT(&place->others))
        place->narrowed =
            !sched_setaffinity(place->thread, sizeof place->others, &place->others);
}

/* Let the calling thread run where it might before, unless somebody else has moved it. */
static void place_as_usual(place_t *place)
{
    cpu_set_t now;
    if (place->narrowed && !sched_getaffinity(0, sizeof now, &now)
        && CPU_EQUAL(&now, &place->others))
        sched_setaffinity(0, sizeof place->usual, &place->usual);
    place->narrowed = 0;
}
#else
typedef struct { int unused; } place_t;
#define current_cpu() (-1)
#define begin_place(place) ((void)(place))
#define place_elsewhere(place) ((void)(place))
#define place_as_usual(place) ((void)(place))
#endif

#endif
