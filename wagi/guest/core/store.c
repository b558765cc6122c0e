#include "store.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"

enum { NO_EXTERN = 0xFF, OUTPUT_FIRST = 1024, EXTRA_TICKS = 10 };

/* The end of a slice of a guest with an allocator. While a host call in Python calls the allocator,
 * the guest must not be suspended: Python's frames are on its stack. It gets a few more ticks then,
 * and yields after the host call; an allocator that takes longer is trapped.
 */
static void *at_deadline(void *context, void *data, uint64_t *delta, uint8_t *kind) {
  store_t *store = wasmtime.context_get_data(context);
  (void)data;
  *delta = store->plan->slice_ticks; /* it counts from when the guest continues */
  *kind = DEADLINE_YIELD;
  if (!store->is_allocating) return NULL;
  if (!store->extra_ticks) return wasmtime.error_new("the allocator of the guest takes too long");
  store->extra_ticks--;
  store->slice_end = 0;
  *delta = 1;
  *kind = DEADLINE_CONTINUE;
  return NULL;
}

store_t *store_open(const plan_t *plan, strings_t arguments, strings_t environment) {
  store_t *store = calloc(1, sizeof *store);
  if (!store) return NULL;
  store->plan = plan;
  store->arguments = arguments;
  store->environment = environment;
  store->memory.kind = NO_EXTERN;
  store->input = (const uint8_t *)"";
  store->streams = 7;
  store->memory_allowed = -1;
  store->started_at = clock_now();
  store->store = wasmtime.store_new(plan->engine, store, NULL);
  store->context = wasmtime.store_context(store->store);
  store_limit_memory(store, plan->memory_limit);
  if (plan->has_allocator)
    wasmtime.store_epoch_deadline_callback(store->store, at_deadline, NULL, NULL);
  else
    wasmtime.context_epoch_deadline_async_yield_and_update(store->context, plan->slice_ticks);
  /* wasmtime's own WASI functions abort the process in a store without a WASI context. */
  if (plan->needs_wasi) wasmtime.context_set_wasi(store->context, wasmtime.wasi_config_new());
  store->future = wasmtime.instance_pre_instantiate_async(
      plan->pre, store->context, &store->instance, &store->trap, &store->error);
  return store;
}

/* Start the call of the next export. */
static store_state_t call_next(store_t *store) {
  const plan_t *plan = store->plan;
  const strings_t *exports = &plan->exports;
  if (store->export_at == exports->size) {
    if (!store->result.of.i32) return STORE_RETURNED;
    store->exit_status = 1;
    store->has_exited = 1;
    return STORE_FAILED;
  }
  const char *name = (const char *)exports->bytes + store->export_at;
  size_t length = strlen(name);
  store->export_at += length + 1;
  if (!wasmtime.instance_export_get(store->context, &store->instance, name, length,
                                    &store->function) ||
      store->function.kind != EXTERN_FUNC)
    return STORE_NO_EXPORT;
  bool is_last = store->export_at == exports->size;
  store->future = wasmtime.func_call_async(
      store->context, store->function.of, plan->arguments, is_last ? plan->argument_count : 0,
      &store->result, is_last && plan->has_result, &store->trap, &store->error);
  return STORE_SUSPENDED;
}

store_state_t store_poll(store_t *store) {
  store_state_t state = STORE_SUSPENDED;
  if (!store->future) return STORE_RETURNED; /* the guest has ended */
  if (!clock_begin_poll()) return STORE_NO_CLOCK;
  if (!store->is_instantiated) memory_set_image(store->plan->image);
  store->slice_end = clock_now() + store->plan->slice;
  store->extra_ticks = EXTRA_TICKS;
  while (state == STORE_SUSPENDED) {
    wasmtime.context_set_epoch_deadline(store->context, store->plan->slice_ticks);
    if (!wasmtime.call_future_poll(store->future)) break;
    wasmtime.call_future_delete(store->future);
    store->future = NULL;
    if (store->trap || store->error || store->has_exited) {
      state = STORE_FAILED;
    } else {
      store->is_instantiated = true;
      state = call_next(store);
    }
  }
  memory_set_image(NULL);
  clock_end_poll();
  return state;
}

void store_limit_memory(store_t *store, int64_t bytes) {
  const plan_t *plan = store->plan;
  if (bytes > plan->memory_limit) bytes = plan->memory_limit;
  if (bytes == store->memory_allowed) return;
  store->memory_allowed = bytes;
  wasmtime.store_limiter(store->store, bytes, plan->element_limit, 1, plan->table_limit,
                         plan->memory_count_limit);
}

int64_t store_memory_size(store_t *store) {
  if (store->memory.kind == NO_EXTERN) {
    if (!store->is_instantiated) return -1;
    if (!wasmtime.instance_export_get(store->context, &store->instance, "memory", 6,
                                      &store->memory))
      store->memory.kind = EXTERN_FUNC; /* no such export: any kind except EXTERN_MEMORY */
  }
  if (store->memory.kind != EXTERN_MEMORY) return 0;
  return (int64_t)wasmtime.memory_data_size(store->context, store->memory.of);
}

void store_set_input(store_t *store, const uint8_t *bytes, size_t size) {
  store->input = bytes;
  store->input_size = size;
}

bool store_write_output(store_t *store, const uint8_t *bytes, size_t size) {
  size_t wanted = store->output_size + size;
  if (size == 0) return true; /* `output` may be NULL, which memcpy does not allow */
  if (wanted > store->output_room) {
    size_t room = store->output_room ? store->output_room : OUTPUT_FIRST;
    while (room < wanted) room *= 2;
    uint8_t *moved = realloc(store->output, room);
    if (!moved) return false;
    store->output = moved;
    store->output_room = room;
  }
  memcpy(store->output + store->output_size, bytes, size);
  store->output_size = wanted;
  return true;
}

void store_close(store_t *store) {
  if (store->future) wasmtime.call_future_delete(store->future);
  if (store->trap) wasmtime.trap_delete(store->trap);
  if (store->error) wasmtime.error_delete(store->error);
  wasmtime.store_delete(store->store);
  free(store->output);
  free(store);
}
