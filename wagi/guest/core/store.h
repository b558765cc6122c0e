/* A guest in a store of its own, from start to end, and the simple cases of its host calls. The
 * reference implementation in Python is wagi.guest.capi.store.Store.
 *
 * A store must not be used by more than one thread at a time.
 */
#ifndef WAGI_CORE_STORE_H
#define WAGI_CORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api.h"
#include "memory.h"

/* A sequence of NUL-terminated strings. */
typedef struct {
  const uint8_t *bytes;
  size_t size; /* bytes, including the NULs */
  size_t count;
} strings_t;

/* The configuration that the stores of all guests of a handler share. */
typedef struct {
  void *engine;
  void *pre;      /* wasmtime_instance_pre_t */
  image_t *image; /* the initial data of its memory, or NULL */
  strings_t exports; /* the exports to call, in order */
  val_t arguments[2]; /* of the last export; the others have none */
  size_t argument_count;
  bool has_result;    /* whether the last export returns an i32: 0, or 1 for a failure */
  bool has_allocator; /* whether host calls may call an allocator of the guest */
  int64_t memory_limit, element_limit, table_limit, memory_count_limit;
  uint64_t output_limit; /* maximum size of the buffered output, in bytes */
  double slice;          /* seconds */
  uint64_t slice_ticks;
  bool needs_wasi;  /* whether the module imports functions of wasmtime's own WASI */
  bool has_preopens;
} plan_t;

/* Python also accesses the first fields (wagi.guest.capi.store_fields.StoreFields):
 *
 *     offset  size  field
 *     0       16    instance
 *     16      32    function
 *     48      32    memory
 *     80      8     trap
 *     88      8     error
 *     96      8     slice_end
 *     104     8     started_at
 *     112     4     exit_status
 *     116     1     has_exited
 *     117     1     streams, followed by 2 bytes of padding
 *     120     8     context
 *     128     4     extra_ticks
 *     132     1     is_allocating, followed by 3 bytes of padding
 */
typedef struct {
  instance_t instance;
  extern_t function; /* the export that is being called */
  extern_t memory;   /* the exported memory; has another kind until it has been looked up */
  void *trap;
  void *error;
  double slice_end;  /* time at which the guest has to yield, in seconds of CLOCK_MONOTONIC */
  double started_at; /* in seconds of CLOCK_MONOTONIC */
  int32_t exit_status;
  uint8_t has_exited;
  uint8_t streams; /* bit n: descriptor n still refers to standard stream n */
  void *context;
  uint32_t extra_ticks; /* ticks after the end of the slice that are left for the allocator */
  uint8_t is_allocating; /* whether a host call is calling the allocator of the guest */
  /* Python does not access the fields below. */
  val_t result; /* of the last export */
  const plan_t *plan;
  void *store, *future;
  size_t export_at; /* offset of the next export to call in plan->exports */
  bool is_instantiated;
  int64_t memory_allowed; /* bytes */
  strings_t arguments, environment;
  const uint8_t *input; /* stdin: bytes that the guest has not read yet */
  size_t input_size;
  bool input_ended; /* whether `input` is followed by the end of file */
  uint8_t *output; /* stdout: bytes that Python has not taken yet */
  size_t output_size, output_room; /* bytes used and allocated */
} store_t;

typedef enum {
  STORE_SUSPENDED,
  STORE_RETURNED,
  STORE_FAILED, /* `has_exited`, or `trap` or `error` is set, which the caller then owns */
  STORE_NO_EXPORT,
  STORE_NO_CLOCK, /* the clock cannot be started: the guest has not run */
} store_state_t;

/* Create a store and start the instantiation. The store borrows the strings until store_close.
 * Returns NULL if out of memory. */
store_t *store_open(const plan_t *plan, strings_t arguments, strings_t environment);

/* Run the guest until it ends or suspends, for at most about a slice. */
store_state_t store_poll(store_t *store);

/* Set the size in bytes to which each memory may grow; the plan's limit also applies. */
void store_limit_memory(store_t *store, int64_t bytes);

/* Return the size of the exported memory in bytes: 0 without one, -1 before instantiation ends. */
int64_t store_memory_size(store_t *store);

/* Set the unread input. The store borrows the bytes until they are replaced. */
void store_set_input(store_t *store, const uint8_t *bytes, size_t size);

/* Append to stdout. Returns false if out of memory. */
bool store_write_output(store_t *store, const uint8_t *bytes, size_t size);

/* Free everything; a running guest is cancelled. */
void store_close(store_t *store);

/* Return the host call in C for a function of WASI preview 1, or NULL if C does not implement it.
 * `is_async` receives whether it is an async_call_t or a sync_call_t. Its data must be the host
 * call in Python, to which it falls back. */
void *host_call(const char *name, bool *is_async);

#endif
