#define _GNU_SOURCE
#include "clock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "api.h"

/* The intervals follow the same rules as those of wagi.guest.scheduler.Ticker. */
enum { IDLE_TICKS = 5 };
static const double CALM_AFTER = 0.1; /* seconds without a busy guest */

static double tick = 0.001, calm_tick = 0.005; /* seconds */
static atomic_uint_fast64_t polls;             /* number of calls of clock_begin_poll */
static atomic_int running;                     /* number of running guests: at most 1 per thread */
static atomic_bool is_parked;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* protects the variables below */
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static atomic_bool has_thread;
static void **engines;
static size_t engine_count, engine_room;

double clock_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void advance_epochs(void) {
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < engine_count; i++) wasmtime.engine_increment_epoch(engines[i]);
  pthread_mutex_unlock(&lock);
}

static void pause_for(double seconds) {
  struct timespec pause = {0, (long)(seconds * 1e9)};
  nanosleep(&pause, NULL);
}

/* Wait for the next guest. `is_parked` is set before `polls` is read, and clock_begin_poll accesses them
 * in the opposite order, so no start of a guest is missed. */
static void park(uint_fast64_t seen) {
  pthread_mutex_lock(&lock);
  atomic_store(&is_parked, true);
  while (atomic_load(&polls) == seen) pthread_cond_wait(&wake, &lock);
  atomic_store(&is_parked, false);
  pthread_mutex_unlock(&lock);
}

static void *run(void *unused) {
  (void)unused;
  double busy_at = -CALM_AFTER;
  uint_fast64_t seen = atomic_load(&polls);
  int idle = 0;
  for (;;) {
    uint_fast64_t before = atomic_load(&polls);
    pause_for(clock_now() - busy_at > CALM_AFTER ? calm_tick : tick);
    advance_epochs();
    bool is_running = atomic_load(&running) > 0;
    uint_fast64_t now = atomic_load(&polls);
    if (is_running && now == before) busy_at = clock_now(); /* one guest ran for the whole tick */
    if (is_running || now != seen) {
      idle = 0;
      seen = now;
    } else if (++idle >= IDLE_TICKS) {
      park(seen);
      idle = 0;
    }
  }
  return NULL;
}

/* A forked child inherits the state but not the threads, one of which may have held the lock. */
static void after_fork(void) {
  pthread_mutex_init(&lock, NULL);
  pthread_cond_init(&wake, NULL);
  atomic_store(&running, 0);
  atomic_store(&is_parked, false);
  atomic_store(&has_thread, false);
}

/* Start the thread if an engine needs it. Returns false if it cannot be started. */
static bool start_thread(void) {
  static bool handles_fork;
  pthread_mutex_lock(&lock);
  if (!atomic_load(&has_thread) && engine_count) {
    pthread_t thread;
    if (!handles_fork) handles_fork = pthread_atfork(NULL, NULL, after_fork) == 0;
    if (pthread_create(&thread, NULL, run, NULL) == 0) {
      pthread_detach(thread);
      atomic_store(&has_thread, true);
    }
  }
  bool is_ready = atomic_load(&has_thread) || !engine_count;
  pthread_mutex_unlock(&lock);
  return is_ready;
}

void clock_configure(double busy, double calm) {
  tick = busy;
  calm_tick = calm;
}

bool clock_add(void *engine) {
  pthread_mutex_lock(&lock);
  if (engine_count == engine_room) {
    size_t room = engine_room ? 2 * engine_room : 4;
    void **moved = realloc(engines, room * sizeof *engines);
    if (moved) {
      engines = moved;
      engine_room = room;
    }
  }
  bool fits = engine_count < engine_room;
  if (fits) engines[engine_count++] = engine;
  pthread_mutex_unlock(&lock);
  return fits;
}

void clock_remove(void *engine) {
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < engine_count; i++) {
    if (engines[i] == engine) {
      engines[i] = engines[--engine_count];
      break;
    }
  }
  pthread_mutex_unlock(&lock);
}

bool clock_begin_poll(void) {
  if (!atomic_load(&has_thread) && !start_thread()) return false;
  atomic_fetch_add(&running, 1);
  atomic_fetch_add(&polls, 1);
  if (atomic_load(&is_parked)) {
    pthread_mutex_lock(&lock);
    pthread_cond_signal(&wake);
    pthread_mutex_unlock(&lock);
  }
  return true;
}

void clock_end_poll(void) { atomic_fetch_sub(&running, 1); }
