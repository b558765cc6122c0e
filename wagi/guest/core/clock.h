/* The clock that makes guests yield: a thread that advances the epochs of all engines while guests
 * run. It does not need the GIL, so a guest cannot delay it. All functions are thread-safe, except
 * for clock_configure.
 */
#ifndef WAGI_CORE_CLOCK_H
#define WAGI_CORE_CLOCK_H

#include <stdbool.h>

/* Advance the epoch of an engine from now on. The engine must be removed before it is deleted.
 * Returns false if out of memory. */
bool clock_add(void *engine);
void clock_remove(void *engine);

/* Set the interval between ticks, in seconds: `tick` while a guest is busy, `calm_tick` while all
 * guests end or suspend quickly. Must be called before the first clock_begin_poll. */
void clock_configure(double tick, double calm_tick);

/* Announce that a guest starts to run. Returns false if the thread cannot be started; the guest
 * must not run then. */
bool clock_begin_poll(void);

/* Announce that the guest has suspended or ended. */
void clock_end_poll(void);

/* Return the seconds of CLOCK_MONOTONIC, as Python's time.monotonic does. */
double clock_now(void);

#endif
