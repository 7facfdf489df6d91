/* Affinity of the pool's threads: which processor a thread is on, and where it may wake.
 *
 * Where all processors of a virtual machine sleep, Linux queues a thread that is woken on its
 * waker's, since one that sleeps counts as taken away by the host; a worker would come when it is
 * too late to help. Elsewhere than on Linux there is nothing to be done, and nothing is.
 */
#ifndef NORMCORE_AFFINITY_H
#define NORMCORE_AFFINITY_H

#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef struct {
    pid_t thread;
    int is_reduced;
    cpu_set_t own, reduced;
} affinity_t;

#define current_cpu() sched_getcpu()

static inline void init_affinity(affinity_t *affinity)
{
    affinity->thread = syscall(SYS_gettid);
    affinity->is_reduced = 0;
}

/* Have a thread wake on another processor than the caller's, if it may. */
static inline void exclude_current_cpu(affinity_t *affinity)
{
    int here = sched_getcpu();
    if (here < 0 || sched_getaffinity(affinity->thread, sizeof affinity->own, &affinity->own))
        return;
    affinity->reduced = affinity->own;
    CPU_CLR(here, &affinity->reduced);
    if (CPU_COUNT(&affinity->reduced))
        affinity->is_reduced =
            !sched_setaffinity(affinity->thread, sizeof affinity->reduced, &affinity->reduced);
}

/* Let the calling thread run where it might before, unless somebody else has moved it. */
static inline void restore_affinity(affinity_t *affinity)
{
    cpu_set_t now;
    if (affinity->is_reduced && !sched_getaffinity(0, sizeof now, &now)
        && CPU_EQUAL(&now, &affinity->reduced))
        sched_setaffinity(0, sizeof affinity->own, &affinity->own);
    affinity->is_reduced = 0;
}
#else
typedef struct {
    int unused;
} affinity_t;
#define current_cpu() (-1)
#define init_affinity(affinity) ((void)(affinity))
#define exclude_current_cpu(affinity) ((void)(affinity))
#define restore_affinity(affinity) ((void)(affinity))
#endif

#endif
