// A handler of wasi:http without any library: it calls the functions in the flat form of the
// canonical ABI. /hello answers with a text, all other paths with the body of the request.
#include <stddef.h>
#include <stdint.h>

#define IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
#define STREAMS "wasi:io/streams@0.2.0"
#define TYPES "wasi:http/types@0.2.0"

IMPORT(TYPES, "[constructor]fields") uint32_t fields_new(void);
IMPORT(TYPES, "[method]fields.append")
void fields_append(uint32_t self, const char *name, size_t name_length, const char *value,
                   size_t value_length, uint8_t *result);
IMPORT(TYPES, "[method]incoming-request.path-with-query")
void request_path(uint32_t self, uint32_t *result);
IMPORT(TYPES, "[method]incoming-request.consume")
void request_consume(uint32_t self, uint32_t *result);
IMPORT(TYPES, "[method]incoming-body.stream") void body_stream(uint32_t self, uint32_t *result);
IMPORT(TYPES, "[constructor]outgoing-response") uint32_t response_new(uint32_t fields);
IMPORT(TYPES, "[method]outgoing-response.body") void response_body(uint32_t self, uint32_t *result);
IMPORT(TYPES, "[method]outgoing-body.write") void body_write(uint32_t self, uint32_t *result);
IMPORT(TYPES, "[static]outgoing-body.finish")
void body_finish(uint32_t self, uint32_t has_trailers, uint32_t trailers, uint64_t *result);
IMPORT(TYPES, "[static]response-outparam.set")
void outparam_set(uint32_t self, uint32_t is_error, uint32_t response, uint32_t a, uint64_t b,
                  uint32_t c, uint32_t d, uint32_t e, uint32_t f);
IMPORT(STREAMS, "[method]input-stream.blocking-read")
void stream_read(uint32_t self, uint64_t length, uint32_t *result);
IMPORT(STREAMS, "[method]output-stream.blocking-write-and-flush")
void stream_write(uint32_t self, const void *data, size_t length, uint32_t *result);
IMPORT(STREAMS, "[resource-drop]input-stream") void input_stream_drop(uint32_t self);
IMPORT(STREAMS, "[resource-drop]output-stream") void output_stream_drop(uint32_t self);

// What the host allocates is needed until the next call only.
static _Alignas(16) uint8_t buffer[128 * 1024];

__attribute__((export_name("cabi_realloc"))) void *cabi_realloc(void *old, size_t old_size,
                                                                size_t alignment, size_t size) {
    return old == NULL && size <= sizeof buffer ? buffer : (__builtin_trap(), NULL);
}

static const char HELLO[] = "hello from C\n";
enum { BLOCKING_WRITE_MAX = 4096 };

static int is_hello(const char *path, size_t length) {
    static const char expected[] = "/hello";
    if (length != sizeof expected - 1)
        return 0;
    for (size_t i = 0; i < length; i++)
        if (path[i] != expected[i])
            return 0;
    return 1;
}

static void write_all(uint32_t out, const uint8_t *data, size_t length) {
    uint32_t result[4];
    while (length) {
        size_t size = length < BLOCKING_WRITE_MAX ? length : BLOCKING_WRITE_MAX;
        stream_write(out, data, size, result);
        if (result[0] & 1)
            __builtin_trap();
        data += size;
        length -= size;
    }
}

__attribute__((export_name("wasi:http/incoming-handler@0.2.0#handle"))) void
handle(uint32_t request, uint32_t outparam) {
    uint32_t result[4];
    uint8_t header_result[2];
    uint64_t finish_result[8];
    uint32_t headers = fields_new();
    fields_append(headers, "content-type", 12, "text/plain", 10, header_result);
    uint32_t response = response_new(headers);
    response_body(response, result);
    uint32_t body = result[1];
    body_write(body, result);
    uint32_t out = result[1];
    outparam_set(outparam, 0, response, 0, 0, 0, 0, 0, 0);
    request_path(request, result);
    if (is_hello((const char *)(uintptr_t)result[1], result[2])) {
        write_all(out, (const uint8_t *)HELLO, sizeof HELLO - 1);
    } else {
        request_consume(request, result);
        body_stream(result[1], result);
        uint32_t in = result[1];
        for (;;) {
            stream_read(in, 64 * 1024, result);
            if (result[0] & 1)
                break;
            write_all(out, (const uint8_t *)(uintptr_t)result[1], result[2]);
        }
        input_stream_drop(in);
    }
    output_stream_drop(out);
    body_finish(body, 0, 0, finish_result);
}
