/* The part of wasmtime's C API that the core uses. It is declared here, since no package installs
 * wasmtime's headers, and looked up in the library that the wasmtime package has loaded;
 * wagi.guest.compatibility compares these layouts and parameter counts with the installed version.
 */
#ifndef WAGI_CORE_API_H
#define WAGI_CORE_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* wasmtime_instance_t */
typedef struct {
  uint64_t store_id;
  size_t index;
} instance_t;

/* wasmtime_extern_t, 32 bytes:
 *
 *     offset  size  field
 *     0       1     kind, followed by 7 bytes of padding
 *     8       24    of: a function, memory, ... according to kind
 */
typedef struct {
  uint8_t kind;
  uint8_t unused[7];
  uint64_t of[3];
} extern_t;
enum { EXTERN_FUNC = 0, EXTERN_MEMORY = 3 };

/* wasmtime_update_deadline_kind_t */
enum { DEADLINE_CONTINUE = 0, DEADLINE_YIELD = 1 };

/* wasmtime_val_t, 32 bytes:
 *
 *     offset  size    field
 *     0       1       kind, followed by 7 bytes of padding
 *     8       4 or 8  of: i32 or i64, the rest is unused
 */
typedef struct {
  uint8_t kind;
  uint8_t unused[7];
  union {
    uint32_t i32;
    uint64_t i64;
    uint8_t bytes[24];
  } of;
} val_t;

/* wasmtime_val_raw_t, 16 bytes:
 *
 *     offset  size    field
 *     0       4 or 8  of: i32 or i64, the rest is unused
 */
typedef struct {
  union {
    uint32_t i32;
    uint64_t i64;
    uint8_t bytes[16];
  } of;
} raw_t;

/* wasmtime_async_continuation_t */
typedef struct {
  bool (*callback)(void *env);
  void *env;
  void (*finalizer)(void *env);
} continuation_t;

/* wasmtime_func_unchecked_callback_t: returns a trap, or NULL. */
typedef void *(*sync_call_t)(void *data, void *caller, raw_t *values, size_t count);
/* wasmtime_func_async_callback_t */
typedef void (*async_call_t)(void *data, void *caller, const val_t *arguments, size_t argument_count,
                             val_t *results, size_t result_count, void **trap,
                             continuation_t *continuation);

/* Called when a store reaches its epoch deadline. Returns an error, or NULL. */
typedef void *(*deadline_call_t)(void *context, void *data, uint64_t *delta, uint8_t *kind);

/* X(name after "wasmtime_", result, parameters) */
#define WASMTIME_API(X)                                                                            \
  X(call_future_delete, void, (void *future))                                                      \
  X(call_future_poll, bool, (void *future))                                                        \
  X(caller_context, void *, (void *caller))                                                        \
  X(caller_export_get, bool, (void *caller, const char *name, size_t length, extern_t *item))      \
  X(config_host_memory_creator_set, void, (void *config, void *creator))                           \
  X(config_host_stack_creator_set, void, (void *config, void *creator))                            \
  X(context_epoch_deadline_async_yield_and_update, void *, (void *context, uint64_t ticks))        \
  X(context_get_data, void *, (void *context))                                                     \
  X(context_set_epoch_deadline, void, (void *context, uint64_t ticks))                             \
  X(context_set_wasi, void *, (void *context, void *wasi_config))                                  \
  X(engine_increment_epoch, void, (void *engine))                                                  \
  X(error_delete, void, (void *error))                                                             \
  X(error_new, void *, (const char *message))                                                      \
  X(func_call_async, void *, (void *context, const void *function, const val_t *arguments,         \
                              size_t argument_count, val_t *results, size_t result_count,          \
                              void **trap, void **error))                                          \
  X(instance_export_get, bool, (void *context, const instance_t *instance, const char *name,       \
                                size_t length, extern_t *item))                                    \
  X(instance_pre_instantiate_async, void *, (void *pre, void *context, instance_t *instance,       \
                                             void **trap, void **error))                           \
  X(memory_data, uint8_t *, (void *context, const void *memory))                                   \
  X(memory_data_size, size_t, (void *context, const void *memory))                                 \
  X(store_context, void *, (void *store))                                                          \
  X(store_delete, void, (void *store))                                                             \
  X(store_epoch_deadline_callback, void, (void *store, deadline_call_t callback, void *data,       \
                                          void (*finalizer)(void *data)))                          \
  X(store_limiter, void, (void *store, int64_t memory, int64_t elements, int64_t instances,        \
                          int64_t tables, int64_t memories))                                       \
  X(store_new, void *, (void *engine, void *data, void (*finalizer)(void *data)))                  \
  X(trap_new, void *, (const char *message, size_t length))

typedef struct {
#define X(name, result, parameters) result(*name) parameters;
  WASMTIME_API(X)
#undef X
  void *(*wasi_config_new)(void);
  void (*trap_delete)(void *trap);
} wasmtime_api_t;

extern wasmtime_api_t wasmtime; /* set by api_load */

/* Look up all functions. Returns NULL, or the name of the library or function that is missing. */
const char *api_load(const char *library_path);

#endif
