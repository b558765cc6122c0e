/* One guest through wasmtime's C API and nothing else: what no gateway can go below.
 *
 * A guest is started as a fiber, as the gateway starts it, with limits and an epoch deadline, and
 * has one host call: fd_write, which checks the vectors and copies what they refer to. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct { uint64_t store; size_t private; } instance_t; /* wasmtime_instance_t */
typedef struct { _Alignas(8) unsigned char bytes[32]; } extern_t; /* wasmtime_extern_t */

void *wasmtime_store_new(void *, void *, void *);
void wasmtime_store_delete(void *);
void *wasmtime_store_context(void *);
void wasmtime_store_limiter(void *, int64_t, int64_t, int64_t, int64_t, int64_t);
void wasmtime_context_set_epoch_deadline(void *, uint64_t);
void *wasmtime_context_epoch_deadline_async_yield_and_update(void *, uint64_t);
void *wasmtime_context_set_wasi(void *, void *);
void *wasi_config_new(void);
void *wasmtime_instance_pre_instantiate_async(void *, void *, instance_t *, void **, void **);
bool wasmtime_instance_export_get(void *, instance_t *, const char *, size_t, extern_t *);
bool wasmtime_caller_export_get(void *, const char *, size_t, extern_t *);
void *wasmtime_caller_context(void *);
void *wasmtime_func_call_async(void *, void *, void *, size_t, void *, size_t, void **, void **);
bool wasmtime_call_future_poll(void *);
void wasmtime_call_future_delete(void *);
unsigned char *wasmtime_memory_data(void *, void *);
size_t wasmtime_memory_data_size(void *, void *);

static unsigned char output[1 << 16];
static size_t used;

/* fd_write(fd, iovecs, vectors, written): raw has 16 bytes for each argument, and the
 * result in the first one. */
void *floor_fd_write(void *env, void *caller, uint64_t *raw, size_t count) {
    extern_t memory;
    (void)env, (void)count;
    uint32_t iovecs = raw[2], vectors = raw[4], written = raw[6], total = 0;
    void *context = wasmtime_caller_context(caller);
    raw[0] = 21; /* EFAULT */
    if (!wasmtime_caller_export_get(caller, "memory", 6, &memory)) return NULL;
    unsigned char *base = wasmtime_memory_data(context, memory.bytes + 8);
    uint64_t size = wasmtime_memory_data_size(context, memory.bytes + 8);
    if (vectors > 1024 || iovecs + 8ull * vectors > size || written + 4ull > size) return NULL;
    for (uint32_t i = 0; i < vectors; i++) {
        uint32_t vector[2];
        memcpy(vector, base + iovecs + 8 * i, 8);
        if ((uint64_t)vector[0] + vector[1] > size) return NULL;
        uint32_t fits = vector[1] < sizeof output - used ? vector[1] : sizeof output - used;
        memcpy(output + used, base + vector[0], fits);
        used += fits;
        total += fits;
    }
    memcpy(base + written, &total, 4);
    raw[0] = 0;
    return NULL;
}

static void finish(void *future) {
    while (!wasmtime_call_future_poll(future)) {
    }
    wasmtime_call_future_delete(future);
}

static void run_guest(void *engine, void *prepared) {
    instance_t instance;
    extern_t function;
    void *trap = NULL, *error = NULL;
    void *store = wasmtime_store_new(engine, NULL, NULL);
    void *context = wasmtime_store_context(store);
    used = 0;
    wasmtime_store_limiter(store, 256 << 20, 4 << 20, 2, 1, 1);
    wasmtime_context_epoch_deadline_async_yield_and_update(context, 2);
    wasmtime_context_set_wasi(context, wasi_config_new());
    wasmtime_context_set_epoch_deadline(context, 2);
    finish(wasmtime_instance_pre_instantiate_async(prepared, context, &instance, &trap, &error));
    if (!trap && !error &&
        wasmtime_instance_export_get(context, &instance, "_start", 6, &function)) {
        wasmtime_context_set_epoch_deadline(context, 2);
        finish(wasmtime_func_call_async(context, function.bytes + 8, NULL, 0, NULL, 0, &trap,
                                        &error));
    }
    wasmtime_store_delete(store);
}

/* Runs guests one after the other. Returns the bytes of the last one's output. */
size_t floor_run(void *engine, void *prepared, size_t times) {
    while (times--) run_guest(engine, prepared);
    return used;
}

const unsigned char *floor_output(void) { return output; }
