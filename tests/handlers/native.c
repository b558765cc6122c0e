/* A CGI program that calls WASI preview 2 itself, without a C library: it prints its arguments and
 * variables, sleeps, copies its input, and fails if its last argument is "fail".
 */
#include <stddef.h>
#include <stdint.h>

#define IMPORT(module, name) __attribute__((import_module(module), import_name(name))) extern

typedef struct {
  const char *at;
  size_t length;
} string_t;
typedef struct {
  string_t *at;
  size_t count;
} strings_t;
typedef struct {
  uint8_t is_error;
  string_t bytes;
} read_t;

IMPORT("wasi:cli/environment@0.2.0", "get-environment") void get_environment(strings_t *pairs);
IMPORT("wasi:cli/environment@0.2.0", "get-arguments") void get_arguments(strings_t *arguments);
IMPORT("wasi:cli/stdin@0.2.0", "get-stdin") int32_t get_stdin(void);
IMPORT("wasi:cli/stdout@0.2.0", "get-stdout") int32_t get_stdout(void);
IMPORT("wasi:clocks/monotonic-clock@0.2.0", "subscribe-duration") int32_t after(uint64_t when);
IMPORT("wasi:io/poll@0.2.0", "[method]pollable.block") void block(int32_t pollable);
IMPORT("wasi:io/poll@0.2.0", "[resource-drop]pollable") void drop_pollable(int32_t pollable);
IMPORT("wasi:io/streams@0.2.0", "[method]input-stream.blocking-read")
void blocking_read(int32_t stream, uint64_t length, read_t *result);
IMPORT("wasi:io/streams@0.2.0", "[method]output-stream.blocking-write-and-flush")
void blocking_write(int32_t stream, const char *bytes, size_t length, uint8_t *result);

static _Alignas(16) char heap[1 << 20];
static size_t used;

__attribute__((export_name("cabi_realloc"))) void *cabi_realloc(void *old, size_t old_size,
                                                                size_t alignment, size_t size) {
  (void)old, (void)old_size;
  used = (used + alignment - 1) / alignment * alignment;
  if (used + size > sizeof heap) __builtin_trap();
  used += size;
  return heap + used - size;
}

static int32_t output;

static void print(const char *text, size_t length) {
  while (length) {
    uint8_t result[12];
    size_t part = length < 4096 ? length : 4096;
    blocking_write(output, text, part, result);
    if (result[0]) __builtin_trap();
    text += part;
    length -= part;
  }
}

#define PRINT(literal) print(literal, sizeof literal - 1)

__attribute__((export_name("wasi:cli/run@0.2.0#run"))) int32_t run(void) {
  strings_t variables, arguments;
  output = get_stdout();
  get_environment(&variables);
  get_arguments(&arguments);
  PRINT("Content-Type: text/plain\n\n");
  for (size_t i = 0; i < arguments.count; i++) {
    PRINT("argument ");
    print(arguments.at[i].at, arguments.at[i].length);
    PRINT("\n");
  }
  for (size_t i = 0; i < variables.count; i++) {
    print(variables.at[2 * i].at, variables.at[2 * i].length);
    PRINT("=");
    print(variables.at[2 * i + 1].at, variables.at[2 * i + 1].length);
    PRINT("\n");
  }
  int32_t pollable = after(10000000);
  block(pollable);
  drop_pollable(pollable);
  int32_t input = get_stdin();
  for (;;) {
    read_t result;
    size_t before = used;
    blocking_read(input, 1000, &result);
    if (result.is_error) break;
    print(result.bytes.at, result.bytes.length);
    used = before;
  }
  string_t last = arguments.count ? arguments.at[arguments.count - 1] : (string_t){"", 0};
  return last.length == 4 && last.at[0] == 'f';
}
