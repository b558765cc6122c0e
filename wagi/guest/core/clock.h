/* The clock by which guests have to yield: a thread that advances the epochs of all engines while
 * guests run. It needs no GIL, so a guest cannot keep it from running.
 */
#ifndef WAGI_CORE_CLOCK_H
#define WAGI_CORE_CLOCK_H

#include <stdbool.h>

/* Advance the epoch of an engine from now on. The engine must be removed before it is deleted.
 * Returns whether there was memory for it. */
bool clock_add(void *engine);
void clock_remove(void *engine);

/* Set the seconds between two ticks: while a guest is busy, and while all guests are short. */
void clock_configure(double tick, double calm_tick);

/* A guest begins to run. Returns false if the thread cannot be started: the guest must not run.
 * Any thread. */
bool clock_enter(void);

/* The guest has suspended or ended. */
void clock_leave(void);

/* Seconds of CLOCK_MONOTONIC, which is what Python's time.monotonic returns. */
double clock_now(void);

#endif
