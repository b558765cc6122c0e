/* Drives store.c and calls.c without wasmtime and without Python: a fake of wasmtime's C API, whose
 * guests make host calls with hostile arguments. Under AddressSanitizer each byte beyond a guest's
 * memory, its strings, its input and its output is an error, for all of them are allocated with
 * exactly their size.
 *
 *     cc -std=c11 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -I CORE \
 *        calls_driver.c CORE/{api,calls,clock,memory,store}.c -o drive -lpthread
 *     ./drive FIRST_SEED COUNT        random guests
 *     ./drive --layout                the offsets that Python relies on
 *     clang ... -DLIBFUZZER -fsanitize=fuzzer,address,undefined ...    the same for libFuzzer
 *
 * What is verified besides: a host call that the core leaves to Python has changed nothing, one that
 * it completes has the right errno, and a host call after the end of the slice goes to Python.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "store.h"

#define CHECK(condition)                                                                           \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                              \
      abort();                                                                                     \
    }                                                                                              \
  } while (0)

enum { EBADF_ = 8, FALLBACK_ERRNO = 4242, MAX_POLLS = 12, MAX_CALLS = 12 };

/* ---- choices: the fuzzer's bytes, then zeros ---- */

static const uint8_t *bytes, *bytes_end;

static uint32_t choose(uint32_t choices) {
  uint32_t value = 0;
  for (uint32_t range = 1; range && range < choices; range <<= 8)
    value = value << 8 | (bytes < bytes_end ? *bytes++ : 0);
  return choices ? value % choices : value;
}

#define PICK(...)                                                                                  \
  ((const uint32_t[]){__VA_ARGS__}[choose(sizeof((const uint32_t[]){__VA_ARGS__}) / 4)])

/* ---- the fake ---- */

/* A store, its context, the caller of its host calls, its instance and its future in one. */
typedef struct {
  store_t *data;
  uint8_t *memory;
  size_t memory_size;
  uint8_t memory_kind; /* of what is exported as "memory"; 0xFF: nothing */
  bool lacks_export;
  void *wasi, **trap, **error;
  bool is_polled;
  deadline_call_t at_deadline; /* NULL: the guest yields at the deadline */
  int futures;
} fake_t;

static int open_stores;
static const plan_t *current_plan;
static struct {
  void *function;
  bool is_async;
} calls[11];
static const char *const names[] = {
    "args_get",      "args_sizes_get",      "environ_get",    "environ_sizes_get",
    "fd_fdstat_get", "fd_fdstat_set_flags", "fd_prestat_get", "proc_exit",
    "fd_read",       "fd_write",            "random_get",
};
enum { FDSTAT = 4, SET_FLAGS = 5, PRESTAT = 6, EXIT = 7, READ = 8, WRITE = 9 };

/* What a host call in Python finds: everything as it was before the call. */
typedef struct {
  bool was_called;
  uint8_t *memory;
  size_t output_size, input_size;
  const uint8_t *input;
} before_t;
static before_t before;

static void verify_untouched(const fake_t *fake) {
  const store_t *store = fake->data;
  CHECK(!before.was_called);
  before.was_called = true;
  CHECK(fake->memory_size == 0 || memcmp(before.memory, fake->memory, fake->memory_size) == 0);
  CHECK(store->output_size == before.output_size && store->input == before.input &&
        store->input_size == before.input_size);
}

static void *python_sync(void *data, void *caller, raw_t *values, size_t count) {
  CHECK(!data && count <= 2);
  verify_untouched(caller);
  values[0].of.i32 = FALLBACK_ERRNO;
  return choose(16) ? NULL : wasmtime.trap_new("no", 2);
}

static bool python_ready(void *env) { return env != NULL; }

static void python_async(void *data, void *caller, const val_t *arguments, size_t argument_count,
                         val_t *results, size_t result_count, void **trap,
                         continuation_t *continuation) {
  CHECK(!data && arguments && argument_count <= 4 && result_count == 1);
  verify_untouched(caller);
  results[0].of.i32 = FALLBACK_ERRNO;
  if (!choose(16)) *trap = wasmtime.trap_new("no", 2);
  *continuation = (continuation_t){python_ready, caller, NULL};
}

static uint32_t hostile_number(const fake_t *fake) {
  uint32_t end = (uint32_t)fake->memory_size;
  switch (choose(4)) {
    case 0: return choose(64);
    case 1: return end - PICK(0, 1, 3, 4, 5, 7, 8, 9, 16, 23, 24, 25);
    case 2: return choose(end + 1);
    default: return PICK(0, 1, UINT32_MAX, UINT32_MAX - 3, UINT32_MAX - 7, 1u << 31, 1 << 29, 256, 257);
  }
}

/* Fill a part of the memory with vectors of buffers. Returns where they begin. */
static uint32_t place_vectors(fake_t *fake, uint32_t *count) {
  *count = PICK(0, 1, 2, 3, 5, 64, 65, 1u << 29, UINT32_MAX);
  uint32_t at = choose(2) ? hostile_number(fake) : choose(32);
  bool are_valid = choose(2);
  for (uint32_t i = 0; i < *count && i < 70; i++) {
    uint32_t vector[2] = {hostile_number(fake), hostile_number(fake)};
    if (are_valid) {
      vector[0] = choose((uint32_t)fake->memory_size + 1);
      vector[1] = choose((uint32_t)fake->memory_size - vector[0] + 1);
    }
    if ((uint64_t)at + 8 * i + 8 > fake->memory_size) break;
    memcpy(fake->memory + at + 8 * i, vector, 8);
  }
  return at;
}

static void make_sync_call(fake_t *fake, size_t which, uint32_t *arguments, void **trap) {
  raw_t *values = malloc(2 * sizeof *values);
  memset(values, 0xAA, 2 * sizeof *values);
  for (int i = 0; i < 2; i++) values[i].of.i32 = arguments[i];
  sync_call_t call = (sync_call_t)calls[which].function;
  *trap = call((void *)python_sync, fake, values, which == EXIT ? 1 : 2);
  if (which == EXIT) {
    CHECK(*trap && !before.was_called && fake->data->has_exited &&
          fake->data->exit_status == (int32_t)arguments[0]);
  } else if (!before.was_called) {
    CHECK(!*trap && values[0].of.i32 == (which == SET_FLAGS || which == PRESTAT ? EBADF_ : 0));
  }
  free(values);
}

static void make_async_call(fake_t *fake, size_t which, uint32_t *arguments, void **trap) {
  size_t count = which == READ || which == WRITE ? 4 : 2;
  val_t *values = calloc(count, sizeof *values), *results = calloc(1, sizeof *results);
  continuation_t *continuation = malloc(sizeof *continuation);
  memset(continuation, 0xAA, sizeof *continuation);
  for (size_t i = 0; i < count; i++) values[i].of.i32 = arguments[i];
  async_call_t call = (async_call_t)calls[which].function;
  call((void *)python_async, fake, values, count, results, 1, trap, continuation);
  CHECK(continuation->callback(continuation->env) && !continuation->finalizer);
  if (!before.was_called) CHECK(!*trap && results[0].of.i32 == 0);
  free(continuation);
  free(results);
  free(values);
}

/* Whether the core must not complete a call, wherever its pointers go. */
static bool belongs_to_python(const store_t *store, size_t which, const uint32_t *arguments) {
  uint32_t first = arguments[0];
  bool is_stream = first <= 2 && store->streams & 1 << first;
  if (which != EXIT && store->slice_end < clock_now()) return true;
  switch (which) {
    case FDSTAT: return !is_stream;
    case SET_FLAGS: return !is_stream || arguments[1] > 31;
    case PRESTAT: return current_plan->has_preopens;
    case READ: return !is_stream || first != 0 || !(store->input_size || store->input_ended);
    case WRITE: return !is_stream || first != 1;
    default: return false;
  }
}

/* Make one host call, of which everything that it must not do is checked. */
static void make_call(fake_t *fake, void **trap) {
  store_t *store = fake->data;
  size_t which = choose(sizeof names / sizeof *names);
  uint32_t arguments[4];
  for (int i = 0; i < 4; i++) arguments[i] = hostile_number(fake);
  if (which == SET_FLAGS || which == FDSTAT) arguments[0] = choose(4);
  if (which == READ || which == WRITE) {
    arguments[0] = choose(8) ? which == WRITE : choose(4);
    arguments[1] = place_vectors(fake, &arguments[2]);
    if (choose(2)) arguments[3] = arguments[1] + choose(16); /* the result is in the vector */
  }
  if (!choose(8)) store->slice_end = 0;
  if (which != EXIT && !choose(16)) store->is_allocating = true;

  before = (before_t){false, malloc(fake->memory_size + 1), store->output_size, store->input_size,
                      store->input};
  CHECK(before.memory);
  memcpy(before.memory, fake->memory, fake->memory_size);
  bool is_for_python = belongs_to_python(store, which, arguments);
  if (calls[which].is_async)
    make_async_call(fake, which, arguments, trap);
  else
    make_sync_call(fake, which, arguments, trap);
  if (is_for_python || store->is_allocating) CHECK(before.was_called);
  store->is_allocating = false;
  if (store->output_size > before.output_size) CHECK(store->output_size <= current_plan->output_limit);
  if (which != READ) CHECK(store->input == before.input && store->input_size == before.input_size);
  if (which == WRITE && !before.was_called && store->output_size > before.output_size) {
    /* The result is the number of bytes. */
    uint32_t written;
    memcpy(&written, fake->memory + arguments[3], 4);
    CHECK(written == store->output_size - before.output_size);
  }
  free(before.memory);

  if (!choose(6)) { /* Python closes a stream, or writes */
    store->streams &= (uint8_t)~(1 << choose(3));
  } else if (!choose(6)) {
    uint64_t room = current_plan->output_limit - store->output_size;
    size_t size = choose(room < 100 ? (uint32_t)room + 1 : 100);
    uint8_t *text = calloc(size + 1, 1);
    CHECK(store_write_output(store, text, size));
    free(text);
  }
}

static void *new_wasi(void) { return malloc(1); }

static void *new_trap(const char *message, size_t length) {
  char *trap = malloc(length + 1);
  memcpy(trap, message, length);
  return trap;
}

static void *new_error(const char *message) { return new_trap(message, strlen(message)); }

static void *store_new(void *engine, void *data, void (*finalizer)(void *)) {
  CHECK(engine && !finalizer);
  fake_t *fake = calloc(1, sizeof *fake);
  fake->data = data;
  fake->memory_size = PICK(0, 1, 4, 8, 24, 64, 100, 1000, 5000);
  fake->memory = malloc(fake->memory_size);
  fake->memory_kind = (uint8_t)PICK(EXTERN_MEMORY, EXTERN_MEMORY, EXTERN_MEMORY, 0xFF, 1, 0);
  fake->lacks_export = !choose(10);
  for (size_t i = 0; i < fake->memory_size; i++) fake->memory[i] = (uint8_t)choose(256);
  open_stores++;
  return fake;
}

static void store_delete(void *store) {
  fake_t *fake = store;
  CHECK(!fake->futures && !fake->is_polled);
  free(fake->memory);
  free(fake->wasi);
  free(fake);
  open_stores--;
}

static void *identity(void *any) { return any; }
static void *get_data(void *context) { return ((fake_t *)context)->data; }

static void set_limits(void *store, int64_t memory, int64_t elements, int64_t instances,
                       int64_t tables, int64_t memories) {
  CHECK(store && memory <= current_plan->memory_limit && elements == current_plan->element_limit &&
        instances == 1 && tables == 1 && memories == 2);
}

static void set_deadline_callback(void *store, deadline_call_t callback, void *data,
                                  void (*finalizer)(void *)) {
  CHECK(current_plan->has_allocator && !data && !finalizer);
  ((fake_t *)store)->at_deadline = callback;
}

/* The slice ends, maybe while a host call in Python is calling the allocator of the guest. */
static void reach_deadline(fake_t *fake) {
  store_t *store = fake->data;
  bool is_allocating = choose(2);
  for (uint32_t left = choose(40); left; left--) {
    uint32_t ticks_left = store->extra_ticks;
    uint64_t delta = 0;
    uint8_t kind = 0xFF;
    store->is_allocating = is_allocating;
    char *error = fake->at_deadline(fake, NULL, &delta, &kind);
    store->is_allocating = false;
    CHECK(!error == (!is_allocating || ticks_left));
    free(error);
    if (error) return;
    CHECK(kind == (is_allocating ? DEADLINE_CONTINUE : DEADLINE_YIELD));
    CHECK(delta == (is_allocating ? 1 : current_plan->slice_ticks));
    if (is_allocating) CHECK(store->slice_end < clock_now());
  }
}

static void *set_deadline_and_yield(void *context, uint64_t ticks) {
  CHECK(!current_plan->has_allocator);
  CHECK(context && ticks == current_plan->slice_ticks);
  return NULL;
}

static void set_deadline(void *context, uint64_t ticks) {
  CHECK(context && ticks == current_plan->slice_ticks);
}

static void *set_wasi(void *context, void *wasi) {
  fake_t *fake = context;
  CHECK(!fake->wasi);
  fake->wasi = wasi;
  return NULL;
}

static void *make_future(fake_t *fake, void **trap, void **error) {
  fake->trap = trap;
  fake->error = error;
  CHECK(!fake->futures++);
  return fake;
}

static void *instantiate(void *pre, void *context, instance_t *instance, void **trap, void **error) {
  CHECK(pre == current_plan->pre);
  *instance = (instance_t){1, 1};
  return make_future(context, trap, error);
}

static void *call_function(void *context, const void *function, const val_t *arguments,
                           size_t argument_count, val_t *results, size_t result_count, void **trap,
                           void **error) {
  CHECK(function && arguments == current_plan->arguments && results);
  CHECK(argument_count == 0 || argument_count == current_plan->argument_count);
  CHECK(result_count <= current_plan->has_result);
  if (result_count) results[0].of.i32 = choose(2);
  return make_future(context, trap, error);
}

/* The guest runs: it makes host calls, then suspends or ends. */
static bool poll_future(void *future) {
  fake_t *fake = future;
  void *trap = NULL;
  CHECK(fake->futures == 1 && !fake->is_polled);
  fake->is_polled = true;
  for (uint32_t left = choose(MAX_CALLS); left && !trap; left--) make_call(fake, &trap);
  if (fake->at_deadline && !choose(4)) reach_deadline(fake);
  if (!choose(4) && fake->memory_size) { /* memory.grow, which may move it */
    size_t size = fake->memory_size + choose(100);
    fake->memory = realloc(fake->memory, size);
    memset(fake->memory + fake->memory_size, 0, size - fake->memory_size);
    fake->memory_size = size;
  }
  fake->is_polled = false;
  *fake->trap = trap;
  if (trap) return true;
  if (!choose(10)) {
    *(choose(2) ? fake->trap : fake->error) = new_error("it has failed");
    return true;
  }
  return choose(3) != 0;
}

static void delete_future(void *future) { CHECK(((fake_t *)future)->futures-- == 1); }

static bool export_of(fake_t *fake, const char *name, size_t length, extern_t *item) {
  if (length == 6 && !memcmp(name, "memory", 6)) {
    if (fake->memory_kind == 0xFF) return false;
    *item = (extern_t){.kind = fake->memory_kind, .of = {7, 7, 7}};
    return true;
  }
  bool is_export = (length == 6 && !memcmp(name, "_start", 6)) ||
                   (length == 11 && !memcmp(name, "_initialize", 11));
  CHECK(is_export);
  if (fake->lacks_export && choose(2)) return false;
  *item = (extern_t){.kind = fake->lacks_export ? 1 : EXTERN_FUNC};
  return true;
}

static bool caller_export(void *caller, const char *name, size_t length, extern_t *item) {
  CHECK(((fake_t *)caller)->is_polled);
  return export_of(caller, name, length, item);
}

static bool instance_export(void *context, const instance_t *instance, const char *name,
                            size_t length, extern_t *item) {
  CHECK(instance->index == 1);
  return export_of(context, name, length, item);
}

static uint8_t *memory_data(void *context, const void *memory) {
  CHECK(*(const uint64_t *)memory == 7 && ((fake_t *)context)->memory_kind == EXTERN_MEMORY);
  return ((fake_t *)context)->memory;
}

static size_t memory_data_size(void *context, const void *memory) {
  CHECK(*(const uint64_t *)memory == 7);
  return ((fake_t *)context)->memory_size;
}

static void set_up(void) {
  if (calls[0].function) return;
  wasmtime = (wasmtime_api_t){
      .call_future_delete = delete_future,
      .call_future_poll = poll_future,
      .caller_context = identity,
      .caller_export_get = caller_export,
      .context_epoch_deadline_async_yield_and_update = set_deadline_and_yield,
      .context_get_data = get_data,
      .context_set_epoch_deadline = set_deadline,
      .context_set_wasi = set_wasi,
      .error_delete = free,
      .error_new = new_error,
      .func_call_async = call_function,
      .instance_export_get = instance_export,
      .instance_pre_instantiate_async = instantiate,
      .memory_data = memory_data,
      .memory_data_size = memory_data_size,
      .store_context = identity,
      .store_delete = store_delete,
      .store_epoch_deadline_callback = set_deadline_callback,
      .store_limiter = set_limits,
      .store_new = store_new,
      .trap_new = new_trap,
      .wasi_config_new = new_wasi,
      .trap_delete = free,
  };
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    calls[i].function = host_call(names[i], &calls[i].is_async);
    CHECK(calls[i].function);
  }
  bool is_async;
  CHECK(!host_call("path_open", &is_async) && !host_call("", &is_async));
}

/* ---- one guest ---- */

static strings_t make_strings(void) {
  size_t size = PICK(0, 1, 2, 10, 100, 1000), count = 0;
  uint8_t *block = malloc(size);
  for (size_t i = 0; i < size; i++) {
    block[i] = i + 1 == size || !choose(5) ? 0 : 'x';
    count += block[i] == 0;
  }
  return (strings_t){block, size, count};
}

static uint8_t *feed(store_t *store, uint8_t *old) {
  size_t size = PICK(0, 1, 3, 50, 2000), left = store->input_size;
  uint8_t *input = malloc(left + size + 1);
  if (left) memcpy(input, store->input, left);
  memset(input + left, 'i', size);
  /* The allocation has one byte more, so that it is never empty; what is given has its exact size. */
  uint8_t *exact = realloc(input, left + size ? left + size : 1);
  store_set_input(store, exact, left + size);
  free(old);
  return exact;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static int engine, pre;
  set_up();
  bytes = data;
  bytes_end = data + size;
  static const uint8_t one[] = "_start", both[] = "_initialize\0_start";
  plan_t plan = {
      .engine = &engine,
      .pre = &pre,
      .exports = choose(2) ? (strings_t){one, sizeof one, 1} : (strings_t){both, sizeof both, 2},
      .memory_limit = 1000,
      .element_limit = 10,
      .table_limit = 1,
      .memory_count_limit = 2,
      .output_limit = PICK(0, 1, 16, 1000, 100000, UINT32_MAX),
      .slice = choose(8) ? 10.0 : -1.0,
      .slice_ticks = 2,
      .argument_count = choose(3),
      .has_result = choose(2),
      .has_allocator = choose(2),
      .needs_wasi = choose(2),
      .has_preopens = choose(2),
  };
  current_plan = &plan;
  strings_t arguments = make_strings(), environment = make_strings();
  store_t *store = store_open(&plan, arguments, environment);
  CHECK(store && store_memory_size(store) == -1);
  uint8_t *input = NULL;
  store_state_t state = STORE_SUSPENDED;
  for (uint32_t left = choose(MAX_POLLS); left && state == STORE_SUSPENDED; left--) {
    if (choose(2)) input = feed(store, input);
    if (!choose(3)) store->input_ended = true;
    if (!choose(3)) store->output_size = 0; /* taken */
    store_limit_memory(store, choose(2000));
    state = store_poll(store);
    int64_t memory = store_memory_size(store);
    CHECK(memory == -1 || memory == 0 ||
          memory == (int64_t)((fake_t *)store->context)->memory_size);
    CHECK(state != STORE_FAILED || store->trap || store->error || store->has_exited);
  }
  if (state != STORE_SUSPENDED) {
    CHECK(!store->future && store_poll(store) == STORE_RETURNED); /* an ended guest may be polled */
    if (choose(2)) { /* Python takes what it has failed with */
      free(store->trap);
      free(store->error);
      store->trap = store->error = NULL;
    }
  }
  store_close(store);
  CHECK(open_stores == 0);
  free(input);
  free((void *)arguments.bytes);
  free((void *)environment.bytes);
  return 0;
}

#ifndef LIBFUZZER
static void print_layout(void) {
#define OFFSET(field) printf(#field " %zu\n", offsetof(store_t, field))
  OFFSET(instance), OFFSET(function), OFFSET(memory), OFFSET(trap), OFFSET(error);
  OFFSET(slice_end), OFFSET(started_at), OFFSET(exit_status), OFFSET(has_exited), OFFSET(streams);
  OFFSET(context), OFFSET(extra_ticks), OFFSET(is_allocating);
}

int main(int count, char **arguments) {
  if (count == 2 && !strcmp(arguments[1], "--layout")) {
    print_layout();
    return 0;
  }
  if (count != 3) return 2;
  uint64_t first = strtoull(arguments[1], NULL, 10), runs = strtoull(arguments[2], NULL, 10);
  for (uint64_t seed = first; seed < first + runs; seed++) {
    uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
    uint8_t *data = malloc(8192);
    for (size_t i = 0; i < 8192; i++) {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      data[i] = (uint8_t)(state >> 32);
    }
    LLVMFuzzerTestOneInput(data, 8192);
    free(data);
  }
  printf("%llu guests\n", (unsigned long long)runs);
  return 0;
}
#endif
