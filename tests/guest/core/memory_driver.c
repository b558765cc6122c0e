/* Random guests on memory.c, without wasmtime and so under sanitizers: each one verifies that its
 * memory is what it should be, writes somewhere, and ends while others still run.
 *
 *   memory_driver SEED STEPS THREADS
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../wagi/guest/core/api.h"
#include "../../../wagi/guest/core/memory.h"

#define CHECK(condition)                                                                           \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                                      \
      abort();                                                                                     \
    }                                                                                              \
  } while (0)

enum { PAGE = 64 * 1024, RESERVED = 16 << 20, GUARD = PAGE, RUNNING = 24, IMAGES = 3 };

wasmtime_api_t wasmtime;

typedef struct {
  void *env;
  uint8_t *(*get)(void *env, size_t *size, size_t *capacity);
  void *(*grow)(void *env, size_t size);
  void (*finalizer)(void *env);
} linear_memory_t;
static struct {
  void *env;
  void *(*make)(void *env, const void *type, size_t minimum, size_t maximum, size_t reserved,
                size_t guard, linear_memory_t *memory);
} memories;

typedef struct {
  void *env;
  uint8_t *(*get)(void *env, size_t *size);
  void (*finalizer)(void *env);
} stack_memory_t;
static struct {
  void *env;
  void *(*make)(void *env, size_t size, bool zeroed, stack_memory_t *stack);
} stacks;

static void set_memories(void *config, void *creator) {
  (void)config;
  memcpy(&memories, creator, sizeof memories);
}

static void set_stacks(void *config, void *creator) {
  (void)config;
  memcpy(&stacks, creator, sizeof stacks);
}

static void *error_new(const char *message) { return (void *)message; }

typedef struct {
  image_t *image;
  uint8_t *bytes;
  size_t offset, size, memory_size;
} data_t;

typedef struct {
  bool runs;
  linear_memory_t memory;
  stack_memory_t stack;
} guest_t;

static size_t random_below(unsigned *seed, size_t limit) {
  return ((size_t)rand_r(seed) << 16 ^ (size_t)rand_r(seed)) % limit;
}

static void make_data(data_t *data, unsigned *seed) {
  data->memory_size = (1 + random_below(seed, 40)) * PAGE;
  data->offset = random_below(seed, data->memory_size / PAGE) * PAGE;
  data->size = (1 + random_below(seed, (data->memory_size - data->offset) / PAGE)) * PAGE;
  data->bytes = malloc(data->size);
  for (size_t i = 0; i < data->size; i++) data->bytes[i] = (uint8_t)(1 + i / 4096 + i % 251);
  data->image = image_new(data->bytes, data->offset, data->size, data->memory_size);
  CHECK(data->image);
}

static void drop_data(data_t *data) {
  image_delete(data->image);
  free(data->bytes);
}

static void check_clean(const uint8_t *base, size_t size, const data_t *data) {
  static const uint8_t zeros[4096];
  for (size_t at = 0; at < size; at += sizeof zeros) {
    bool in_image = data && at >= data->offset && at - data->offset < data->size;
    const uint8_t *expected = in_image ? data->bytes + (at - data->offset) : zeros;
    CHECK(memcmp(base + at, expected, sizeof zeros) == 0);
  }
}

static void start(guest_t *guest, const data_t *data, unsigned *seed) {
  static const size_t sizes[] = {0, PAGE, 2 * PAGE, 17 * PAGE, 48 * PAGE};
  size_t minimum = data ? data->memory_size : sizes[random_below(seed, 5)];
  memory_set_image(data ? data->image : NULL);
  CHECK(!memories.make(NULL, NULL, minimum, SIZE_MAX, RESERVED, GUARD, &guest->memory));
  memory_set_image(NULL);

  void *env = guest->memory.env;
  size_t size, capacity;
  uint8_t *base = guest->memory.get(env, &size, &capacity);
  CHECK(size == minimum && capacity == RESERVED);
  if (random_below(seed, 2) == 0) {
    size += random_below(seed, 64) * PAGE;
    CHECK(!guest->memory.grow(env, size));
    CHECK(guest->memory.get(env, &size, &capacity) == base);
  }
  check_clean(base, size, data);
  CHECK(guest->memory.grow(env, RESERVED + PAGE) != NULL);
  static const size_t counts[] = {0, 1, 3, 40, 256, 511, 600, 2000};
  for (size_t n = size ? counts[random_below(seed, 8)] : 0; n > 0; n--)
    base[random_below(seed, size)] = (uint8_t)rand_r(seed);

  bool zeroed = random_below(seed, 2) == 0;
  size_t stack_size = (1 + random_below(seed, 3)) * 100000, length;
  CHECK(!stacks.make(NULL, stack_size, zeroed, &guest->stack));
  uint8_t *top = guest->stack.get(guest->stack.env, &length);
  CHECK(length >= stack_size && length < stack_size + PAGE);
  if (zeroed) check_clean(top - length, length, NULL);
  memset(top - random_below(seed, length), 0x5a, 8);
  if (random_below(seed, 4) == 0) memset(top - length, 0x5a, length);
  guest->runs = true;
}

static void end(guest_t *guest) {
  guest->memory.finalizer(guest->memory.env);
  guest->stack.finalizer(guest->stack.env);
  guest->runs = false;
}

static unsigned long steps;

static void *drive(void *argument) {
  unsigned seed = *(unsigned *)argument;
  data_t data[IMAGES];
  guest_t guests[RUNNING] = {0};
  for (size_t i = 0; i < IMAGES; i++) make_data(&data[i], &seed);
  for (unsigned long step = 0; step < steps; step++) {
    guest_t *guest = &guests[random_below(&seed, RUNNING)];
    if (guest->runs) end(guest);
    size_t which = random_below(&seed, 2 * IMAGES);
    start(guest, which < IMAGES ? &data[which] : NULL, &seed);
    if (random_below(&seed, 50) == 0) { /* while guests with it run */
      data_t *old = &data[random_below(&seed, IMAGES)];
      drop_data(old);
      make_data(old, &seed);
    }
  }
  for (size_t i = 0; i < RUNNING; i++)
    if (guests[i].runs) end(&guests[i]);
  for (size_t i = 0; i < IMAGES; i++) drop_data(&data[i]);
  return NULL;
}

int main(int count, char **arguments) {
  CHECK(count == 4);
  wasmtime.config_host_memory_creator_set = set_memories;
  wasmtime.config_host_stack_creator_set = set_stacks;
  wasmtime.error_new = error_new;
  memory_configure(NULL);
  const char *fault = memory_self_test();
  if (fault) fprintf(stderr, "%s\n", fault);
  CHECK(!fault);
  steps = strtoul(arguments[2], NULL, 10);
  unsigned seed = (unsigned)atoi(arguments[1]), seeds[16];
  int threads = atoi(arguments[3]);
  CHECK(threads > 0 && threads <= 16);
  pthread_t ids[16];
  for (int i = 0; i < threads; i++) {
    seeds[i] = seed + (unsigned)i;
    CHECK(!pthread_create(&ids[i], NULL, drive, &seeds[i]));
  }
  for (int i = 0; i < threads; i++) CHECK(!pthread_join(ids[i], NULL));
  puts(memory_method());
}
