/* The simple cases of the host calls that nearly every guest makes.
 *
 * A function here either completes its call, or falls back, without side effects, to the host call
 * in Python. Python is the reference implementation and handles all cases: errors, files, closed
 * streams, waiting, the end of a slice.
 *
 * Every pointer and length comes from the guest and is untrusted. `span_at` is the only place that
 * checks them. Vectors are copied before they are checked, since a write of the same call could
 * change them afterwards.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/random.h>

#include "clock.h"
#include "store.h"

enum {
  EBADF_ = 8, /* __wasi_errno_t */
  MAX_VECTORS = 64,
  MAX_RANDOM = 256, /* bytes; getrandom(2) is not interrupted by signals up to this size */
  ALL_FLAGS = 31, /* of __wasi_fdflags_t */
  RIGHT_FD_READ = 1 << 1,
  RIGHT_FD_WRITE = 1 << 6,
};

/* The memory of the guest that makes a host call. It does not move or grow during the call. */
typedef struct {
  store_t *store;
  uint8_t *base;
  uint64_t size;
} span_t;

/* Return whether the slice is over, or the guest may not call the host at all. */
static bool must_yield(const store_t *store) {
  return store->is_allocating || clock_now() > store->slice_end;
}

/* Look up the memory. Returns false if the call has to fall back to Python: the guest exports no
 * memory, or its slice is over. */
static bool span_enter(void *caller, span_t *span) {
  void *context = wasmtime.caller_context(caller);
  store_t *store = span->store = wasmtime.context_get_data(context);
  if (must_yield(store)) return false;
  if (store->memory.kind != EXTERN_MEMORY) {
    extern_t found;
    if (!wasmtime.caller_export_get(caller, "memory", 6, &found) || found.kind != EXTERN_MEMORY)
      return false;
    store->memory = found;
  }
  span->base = wasmtime.memory_data(context, store->memory.of);
  span->size = wasmtime.memory_data_size(context, store->memory.of);
  return true;
}

/* Return the address of a range, or NULL if the range is not within the memory. */
static uint8_t *span_at(const span_t *span, uint32_t pointer, uint64_t length) {
  return length <= span->size && pointer <= span->size - length ? span->base + pointer : NULL;
}

static void put_u32(uint8_t *to, uint32_t value) { memcpy(to, &value, 4); }

static void put_u64(uint8_t *to, uint64_t value) { memcpy(to, &value, 8); }

/* A vector of buffers, copied and checked. In guest memory it is an array of __wasi_iovec_t or
 * __wasi_ciovec_t, 8 bytes each:
 *
 *     offset  size  field
 *     0       4     buf: address of the buffer
 *     4       4     buf_len: size of the buffer in bytes
 */
typedef struct {
  size_t count;
  uint64_t total; /* bytes */
  struct {
    uint8_t *at;
    uint32_t length;
  } buffers[MAX_VECTORS];
} vectors_t;

static bool read_vectors(const span_t *span, uint32_t pointer, uint32_t count, vectors_t *vectors) {
  const uint8_t *from = count <= MAX_VECTORS ? span_at(span, pointer, 8ull * count) : NULL;
  if (!from) return false;
  vectors->count = count;
  vectors->total = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint32_t buffer[2];
    memcpy(buffer, from + 8ull * i, 8);
    vectors->buffers[i].at = span_at(span, buffer[0], buffer[1]);
    vectors->buffers[i].length = buffer[1];
    vectors->total += buffer[1];
    if (!vectors->buffers[i].at) return false;
  }
  return true;
}

static bool always_ready(void *env) {
  (void)env;
  return true;
}

/* Complete an asynchronous host call without suspending the guest. */
static void finish(val_t *results, uint32_t errno_, continuation_t *continuation) {
  results[0].of.i32 = errno_;
  *continuation = (continuation_t){always_ready, NULL, NULL};
}

/* fd_write(fd, iovecs, count, nwritten) -> errno */
static bool fd_write(void *caller, const val_t *arguments) {
  span_t span;
  vectors_t vectors;
  if (arguments[0].of.i32 != 1 || !span_enter(caller, &span)) return false;
  store_t *store = span.store;
  if (!(store->streams & 1 << 1)) return false;
  uint8_t *written = span_at(&span, arguments[3].of.i32, 4);
  if (!written || !read_vectors(&span, arguments[1].of.i32, arguments[2].of.i32, &vectors))
    return false;
  if (vectors.total > UINT32_MAX) return false;
  if (vectors.total > store->plan->output_limit - store->output_size) return false;
  size_t before = store->output_size;
  for (size_t i = 0; i < vectors.count; i++) {
    if (!store_write_output(store, vectors.buffers[i].at, vectors.buffers[i].length)) {
      store->output_size = before;
      return false;
    }
  }
  put_u32(written, (uint32_t)vectors.total); /* last, since it may overlap the buffers */
  return true;
}

/* fd_read(fd, iovecs, count, nread) -> errno */
static bool fd_read(void *caller, const val_t *arguments) {
  span_t span;
  vectors_t vectors;
  if (arguments[0].of.i32 != 0 || !span_enter(caller, &span)) return false;
  store_t *store = span.store;
  if (!(store->streams & 1 << 0) || !(store->input_ended || store->input_size)) return false;
  uint8_t *result = span_at(&span, arguments[3].of.i32, 4);
  if (!result || !read_vectors(&span, arguments[1].of.i32, arguments[2].of.i32, &vectors))
    return false;
  if (vectors.total > UINT32_MAX) return false;
  uint32_t done = 0;
  for (size_t i = 0; i < vectors.count; i++) {
    size_t size = vectors.buffers[i].length;
    if (size > store->input_size) size = store->input_size;
    memcpy(vectors.buffers[i].at, store->input, size);
    store->input += size;
    store->input_size -= size;
    done += (uint32_t)size;
  }
  put_u32(result, done);
  return true;
}

/* random_get(buffer, length) -> errno */
static bool random_get(void *caller, const val_t *arguments) {
  span_t span;
  uint32_t length = arguments[1].of.i32;
  if (length > MAX_RANDOM || !span_enter(caller, &span)) return false;
  uint8_t *to = span_at(&span, arguments[0].of.i32, length);
  return to && getrandom(to, length, 0) == (ssize_t)length;
}

static bool put_sizes(const span_t *span, const strings_t *strings, raw_t *values) {
  uint8_t *count = span_at(span, values[0].of.i32, 4);
  uint8_t *size = span_at(span, values[1].of.i32, 4);
  if (!count || !size) return false;
  put_u32(size, (uint32_t)strings->size);
  put_u32(count, (uint32_t)strings->count);
  return true;
}

static bool put_strings(const span_t *span, const strings_t *strings, raw_t *values) {
  uint32_t block = values[1].of.i32;
  uint8_t *pointers = span_at(span, values[0].of.i32, 4ull * strings->count);
  uint8_t *to = span_at(span, block, strings->size);
  if (!pointers || !to) return false;
  memcpy(to, strings->bytes, strings->size);
  const uint8_t *at = strings->bytes, *end = at + strings->size;
  /* The pointers may overlap the strings in guest memory, so `at` walks the host's copy. */
  for (size_t i = 0; i < strings->count && at < end; i++) {
    put_u32(pointers + 4 * i, block + (uint32_t)(at - strings->bytes));
    at = (const uint8_t *)memchr(at, 0, (size_t)(end - at)) + 1;
  }
  return true;
}

/* environ_sizes_get(count, size) -> errno */
static bool environ_sizes_get(void *caller, raw_t *values) {
  span_t span;
  return span_enter(caller, &span) && put_sizes(&span, &span.store->environment, values);
}

/* environ_get(pointers, block) -> errno */
static bool environ_get(void *caller, raw_t *values) {
  span_t span;
  return span_enter(caller, &span) && put_strings(&span, &span.store->environment, values);
}

/* args_sizes_get(count, size) -> errno */
static bool args_sizes_get(void *caller, raw_t *values) {
  span_t span;
  return span_enter(caller, &span) && put_sizes(&span, &span.store->arguments, values);
}

/* args_get(pointers, block) -> errno */
static bool args_get(void *caller, raw_t *values) {
  span_t span;
  return span_enter(caller, &span) && put_strings(&span, &span.store->arguments, values);
}

/* fd_fdstat_get(fd, result) -> errno, for the standard streams. The result is a __wasi_fdstat_t,
 * 24 bytes:
 *
 *     offset  size  field
 *     0       1     fs_filetype: 0 (unknown), followed by 1 byte of padding
 *     2       2     fs_flags: 0, followed by 4 bytes of padding
 *     8       8     fs_rights_base
 *     16      8     fs_rights_inheriting
 */
static bool fd_fdstat_get(void *caller, raw_t *values) {
  span_t span;
  uint32_t fd = values[0].of.i32;
  if (fd > 2 || !span_enter(caller, &span) || !(span.store->streams & 1 << fd)) return false;
  uint8_t *to = span_at(&span, values[1].of.i32, 24);
  if (!to) return false;
  uint64_t rights = fd == 0 ? RIGHT_FD_READ : RIGHT_FD_WRITE;
  put_u64(to, 0);
  put_u64(to + 8, rights);
  put_u64(to + 16, rights);
  return true;
}

/* fd_fdstat_set_flags(fd, flags) -> errno: EBADF for the standard streams, whose flags are fixed.
 * Go's runtime tries to make each of them non-blocking at its start. */
static void *call_fd_fdstat_set_flags(void *python, void *caller, raw_t *values, size_t count) {
  store_t *store = wasmtime.context_get_data(wasmtime.caller_context(caller));
  uint32_t fd = values[0].of.i32, flags = values[1].of.i32;
  bool is_stream = fd <= 2 && store->streams & 1 << fd;
  if (!is_stream || flags > ALL_FLAGS || must_yield(store))
    return ((sync_call_t)python)(NULL, caller, values, count);
  values[0].of.i32 = EBADF_;
  return NULL;
}

#define SYNC_CALL(name)                                                                            \
  static void *call_##name(void *python, void *caller, raw_t *values, size_t count) {              \
    if (!name(caller, values)) return ((sync_call_t)python)(NULL, caller, values, count);          \
    values[0].of.i32 = 0;                                                                          \
    return NULL;                                                                                   \
  }
#define ASYNC_CALL(name)                                                                           \
  static void call_##name(void *python, void *caller, const val_t *arguments,                      \
                          size_t argument_count, val_t *results, size_t result_count,              \
                          void **trap, continuation_t *continuation) {                             \
    if (name(caller, arguments))                                                                   \
      finish(results, 0, continuation);                                                            \
    else                                                                                           \
      ((async_call_t)python)(NULL, caller, arguments, argument_count, results, result_count, trap, \
                             continuation);                                                        \
  }
SYNC_CALL(args_get)
SYNC_CALL(args_sizes_get)
SYNC_CALL(environ_get)
SYNC_CALL(environ_sizes_get)
SYNC_CALL(fd_fdstat_get)
ASYNC_CALL(fd_read)
ASYNC_CALL(fd_write)
ASYNC_CALL(random_get)

/* fd_prestat_get(fd, result) -> errno: EBADF for every descriptor if there are no preopens. */
static void *call_fd_prestat_get(void *python, void *caller, raw_t *values, size_t count) {
  store_t *store = wasmtime.context_get_data(wasmtime.caller_context(caller));
  if (store->plan->has_preopens || must_yield(store))
    return ((sync_call_t)python)(NULL, caller, values, count);
  values[0].of.i32 = EBADF_;
  return NULL;
}

/* proc_exit(status) */
static void *call_proc_exit(void *python, void *caller, raw_t *values, size_t count) {
  static const char message[] = "the guest has called proc_exit";
  store_t *store = wasmtime.context_get_data(wasmtime.caller_context(caller));
  if (store->is_allocating) return ((sync_call_t)python)(NULL, caller, values, count);
  store->exit_status = (int32_t)values[0].of.i32;
  store->has_exited = 1;
  return wasmtime.trap_new(message, sizeof message - 1);
}

void *host_call(const char *name, bool *is_async) {
  static const struct {
    const char *name;
    void *sync;
    void *async;
  } calls[] = {
#define SYNC(name) {#name, (void *)call_##name, NULL}
#define ASYNC(name) {#name, NULL, (void *)call_##name}
      SYNC(args_get),    SYNC(args_sizes_get), SYNC(environ_get),
      SYNC(environ_sizes_get), SYNC(fd_fdstat_get), SYNC(fd_fdstat_set_flags), SYNC(fd_prestat_get),
      SYNC(proc_exit),   ASYNC(fd_read),       ASYNC(fd_write),
      ASYNC(random_get),
  };
  for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
    if (!strcmp(calls[i].name, name)) {
      *is_async = calls[i].async != NULL;
      return *is_async ? calls[i].async : calls[i].sync;
    }
  }
  return NULL;
}
