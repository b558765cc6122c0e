/* One guest in a store of its own, from its start to its end, and the simple cases of its host
 * calls. The counterpart in Python, which has all cases, is wagi.guest.capi.store.Store.
 *
 * The functions of one store are called by one thread at a time.
 */
#ifndef WAGI_CORE_STORE_H
#define WAGI_CORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api.h"
#include "memory.h"

/* Strings, each of which is ended by a NUL. */
typedef struct {
  const uint8_t *bytes;
  size_t size;
  size_t count;
} strings_t;

/* What all guests of a handler have in common. */
typedef struct {
  void *engine;
  void *pre;      /* wasmtime_instance_pre_t */
  image_t *image; /* the data of its memory, or NULL */
  strings_t exports; /* those to call, in order */
  int64_t memory_limit, element_limit, table_limit, memory_count_limit;
  uint64_t output_limit; /* bytes of output that have not been taken */
  double slice;          /* seconds */
  uint64_t slice_ticks;
  bool needs_wasi;  /* whether it calls functions of wasmtime's own WASI */
  bool has_preopens;
} plan_t;

/* Layout of what Python reads, too (wagi.guest.capi.store.Slots):
 *
 *     | instance 16 | function 32 | memory 32 | trap 8 | error 8 | slice_end 8 | started_at 8 |
 *     | exit_status 4 | has_exited 1 | streams 1 | 2 unused | context 8 |
 */
typedef struct {
  instance_t instance;
  extern_t function; /* the export that runs */
  extern_t memory;   /* the exported memory; of another kind while it has not been looked up */
  void *trap;
  void *error;
  double slice_end;  /* when the guest has to yield, in seconds of CLOCK_MONOTONIC */
  double started_at; /* in seconds of CLOCK_MONOTONIC */
  int32_t exit_status;
  uint8_t has_exited;
  uint8_t streams; /* bit n: descriptor n is still the standard stream of that number */
  void *context;
  /* Python reads nothing below. */
  const plan_t *plan;
  void *store, *future;
  size_t export_at; /* of the next export to call, in plan->exports */
  bool is_instantiated;
  int64_t memory_allowed; /* bytes */
  strings_t arguments, environment;
  const uint8_t *input; /* what has arrived of stdin and has not been read */
  size_t input_size;
  bool input_ended; /* no more will come */
  uint8_t *output; /* what has been written to stdout and has not been taken */
  size_t output_size, output_room;
} store_t;

typedef enum {
  STORE_SUSPENDED,
  STORE_RETURNED,
  STORE_FAILED, /* `trap` or `error` is set, and is the caller's; or has_exited */
  STORE_NO_EXPORT,
  STORE_NO_CLOCK, /* nothing has run */
} store_state_t;

/* Make a store, and begin to make the instance. The strings stay the caller's until store_close.
 * Returns NULL if there is no memory. */
store_t *store_open(const plan_t *plan, strings_t arguments, strings_t environment);

/* Run the guest until it ends or suspends, after about a slice at most. */
store_state_t store_poll(store_t *store);

/* Set to how many bytes each memory may grow from now on, within the limit of the plan. */
void store_limit_memory(store_t *store, int64_t bytes);

/* Bytes of the exported memory, 0 without one; -1 until the instance is made. */
int64_t store_memory_size(store_t *store);

/* Set what can be read from stdin. The bytes stay the caller's until they are replaced. */
void store_set_input(store_t *store, const uint8_t *bytes, size_t size);

/* Add to stdout. Returns false if there is no memory. */
bool store_write_output(store_t *store, const uint8_t *bytes, size_t size);

/* Free everything. In the middle of a run this cancels the guest. */
void store_close(store_t *store);

/* The host call in C for a function of WASI, and whether it may suspend the guest (async_call_t, not
 * sync_call_t); NULL if there is none. Its data is the host call in Python, for all other cases. */
void *host_call(const char *name, bool *is_async);

#endif
