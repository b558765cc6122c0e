// Runs a JavaScript module with QuickJS: `NAME.wasm FILE`.
//
// A module can import other files, and "qjs:std" with a part of QuickJS's standard library:
//   std.in.readAsString(), std.in.read(buffer, offset, length)
//   std.out.puts(text), std.out.write(buffer, offset, length), std.out.flush(); std.err likewise
//   std.getenv(name), std.getenviron(), std.loadFile(path), std.exit(status)
// console.log and console.error write to stderr, which is the log: stdout is the response.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quickjs.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

extern char **environ;
static JSClassID file_class;

static FILE *file_of(JSContext *ctx, JSValueConst value) {
    return JS_GetOpaque2(ctx, value, file_class);
}

static char *read_all(JSContext *ctx, FILE *file, size_t *length) {
    size_t capacity = 4096, count;
    char *data = js_malloc(ctx, capacity);
    *length = 0;
    while (data && (count = fread(data + *length, 1, capacity - *length, file)) > 0) {
        *length += count;
        if (*length == capacity) {
            char *larger = js_realloc(ctx, data, capacity *= 2);
            if (!larger) js_free(ctx, data);
            data = larger;
        }
    }
    return data;
}

static char *load(JSContext *ctx, const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    char *data = read_all(ctx, file, length);
    fclose(file);
    if (data && (data = js_realloc(ctx, data, *length + 1))) data[*length] = 0;
    return data;
}

static JSValue puts_(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    FILE *file = file_of(ctx, this);
    if (!file) return JS_EXCEPTION;
    for (int i = 0; i < argc; i++) {
        size_t length;
        const char *text = JS_ToCStringLen(ctx, &length, argv[i]);
        if (!text) return JS_EXCEPTION;
        fwrite(text, 1, length, file);
        JS_FreeCString(ctx, text);
    }
    return JS_UNDEFINED;
}

// read(buffer, offset, length) and write(buffer, offset, length): the number of bytes.
static JSValue transfer(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv, int write) {
    FILE *file = file_of(ctx, this);
    size_t size;
    uint8_t *data = file ? JS_GetArrayBuffer(ctx, &size, argv[0]) : NULL;
    if (!data) return JS_EXCEPTION;
    uint64_t offset = 0, length = size;
    if (argc > 1 && JS_ToIndex(ctx, &offset, argv[1])) return JS_EXCEPTION;
    if (argc > 2 && JS_ToIndex(ctx, &length, argv[2])) return JS_EXCEPTION;
    if (argc < 3) length = offset < size ? size - offset : 0;
    if (offset > size || length > size - offset)
        return JS_ThrowRangeError(ctx, "offset and length exceed the buffer");
    size_t count = write ? fwrite(data + offset, 1, length, file) : fread(data + offset, 1, length, file);
    return JS_NewInt64(ctx, count);
}

static JSValue flush(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    FILE *file = file_of(ctx, this);
    if (!file) return JS_EXCEPTION;
    fflush(file);
    return JS_UNDEFINED;
}

static JSValue read_as_string(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    FILE *file = file_of(ctx, this);
    if (!file) return JS_EXCEPTION;
    size_t length;
    char *data = read_all(ctx, file, &length);
    if (!data) return JS_EXCEPTION;
    JSValue text = JS_NewStringLen(ctx, data, length);
    js_free(ctx, data);
    return text;
}

static const JSCFunctionListEntry file_functions[] = {
    JS_CFUNC_DEF("puts", 1, puts_),
    JS_CFUNC_MAGIC_DEF("read", 3, transfer, 0),
    JS_CFUNC_MAGIC_DEF("write", 3, transfer, 1),
    JS_CFUNC_DEF("flush", 0, flush),
    JS_CFUNC_DEF("readAsString", 0, read_as_string),
};

static JSValue get_variable(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    const char *name = JS_ToCString(ctx, argv[0]);
    if (!name) return JS_EXCEPTION;
    const char *value = getenv(name);
    JS_FreeCString(ctx, name);
    return value ? JS_NewString(ctx, value) : JS_UNDEFINED;
}

static JSValue get_variables(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    JSValue variables = JS_NewObject(ctx);
    for (char **entry = environ; *entry; entry++) {
        const char *value = strchr(*entry, '=');
        if (!value) continue;
        JSAtom name = JS_NewAtomLen(ctx, *entry, value - *entry);
        JS_DefinePropertyValue(ctx, variables, name, JS_NewString(ctx, value + 1), JS_PROP_C_W_E);
        JS_FreeAtom(ctx, name);
    }
    return variables;
}

static JSValue load_file(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    const char *path = JS_ToCString(ctx, argv[0]);
    if (!path) return JS_EXCEPTION;
    size_t length;
    char *data = load(ctx, path, &length);
    JS_FreeCString(ctx, path);
    if (!data) return JS_NULL;
    JSValue text = JS_NewStringLen(ctx, data, length);
    js_free(ctx, data);
    return text;
}

static JSValue exit_(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    int status = 0;
    if (JS_ToInt32(ctx, &status, argv[0])) return JS_EXCEPTION;
    exit(status);
}

static JSValue console_log(JSContext *ctx, JSValueConst this, int argc, JSValueConst *argv) {
    for (int i = 0; i < argc; i++) {
        const char *text = JS_ToCString(ctx, argv[i]);
        if (!text) return JS_EXCEPTION;
        fprintf(stderr, "%s%s", i ? " " : "", text);
        JS_FreeCString(ctx, text);
    }
    fputc('\n', stderr);
    return JS_UNDEFINED;
}

static const JSCFunctionListEntry std_functions[] = {
    JS_CFUNC_DEF("getenv", 1, get_variable),
    JS_CFUNC_DEF("getenviron", 0, get_variables),
    JS_CFUNC_DEF("loadFile", 1, load_file),
    JS_CFUNC_DEF("exit", 1, exit_),
};

static JSValue new_file(JSContext *ctx, FILE *file) {
    JSValue object = JS_NewObjectClass(ctx, file_class);
    JS_SetOpaque(object, file);
    JS_SetPropertyFunctionList(ctx, object, file_functions, COUNT(file_functions));
    return object;
}

static int init_std(JSContext *ctx, JSModuleDef *module) {
    JS_SetModuleExport(ctx, module, "in", new_file(ctx, stdin));
    JS_SetModuleExport(ctx, module, "out", new_file(ctx, stdout));
    JS_SetModuleExport(ctx, module, "err", new_file(ctx, stderr));
    return JS_SetModuleExportList(ctx, module, std_functions, COUNT(std_functions));
}

static void add_std(JSContext *ctx) {
    JSModuleDef *module = JS_NewCModule(ctx, "qjs:std", init_std);
    JS_AddModuleExport(ctx, module, "in");
    JS_AddModuleExport(ctx, module, "out");
    JS_AddModuleExport(ctx, module, "err");
    JS_AddModuleExportList(ctx, module, std_functions, COUNT(std_functions));
    JSValue global = JS_GetGlobalObject(ctx), console = JS_NewObject(ctx);
    JS_SetPropertyStr(ctx, console, "log", JS_NewCFunction(ctx, console_log, "log", 0));
    JS_SetPropertyStr(ctx, console, "error", JS_NewCFunction(ctx, console_log, "error", 0));
    JS_SetPropertyStr(ctx, global, "console", console);
    JS_FreeValue(ctx, global);
}

static JSModuleDef *load_module(JSContext *ctx, const char *path, void *opaque) {
    size_t length;
    char *source = load(ctx, path, &length);
    if (!source) {
        JS_ThrowReferenceError(ctx, "could not load module '%s'", path);
        return NULL;
    }
    JSValue module =
        JS_Eval(ctx, source, length, path, JS_EVAL_TYPE_MODULE | JS_EVAL_FLAG_COMPILE_ONLY);
    js_free(ctx, source);
    if (JS_IsException(module)) return NULL;
    JSModuleDef *definition = JS_VALUE_GET_PTR(module);
    JS_FreeValue(ctx, module);
    return definition;
}

static int report(JSContext *ctx, JSValueConst error) {
    const char *message = JS_ToCString(ctx, error);
    fprintf(stderr, "%s\n", message ? message : "unknown error");
    if (JS_IsError(error)) {
        JSValue stack = JS_GetPropertyStr(ctx, error, "stack");
        const char *lines = JS_ToCString(ctx, stack);
        if (lines) fputs(lines, stderr);
    }
    return 1;
}

int main(int argc, char **argv) {
    const char *path = argc > 1 ? argv[1] : "/app/handler.js";
    JSRuntime *runtime = JS_NewRuntime();
    JSContext *ctx = JS_NewContext(runtime);
    static const JSClassDef file_definition = {"FILE"};
    JS_SetMaxStackSize(runtime, 64 * 1024);
    JS_SetModuleLoaderFunc(runtime, NULL, load_module, NULL);
    JS_NewClassID(runtime, &file_class);
    JS_NewClass(runtime, file_class, &file_definition);
    add_std(ctx);

    size_t length;
    char *source = load(ctx, path, &length);
    if (!source) return fprintf(stderr, "%s: no such file\n", path), 1;
    JSValue result = JS_Eval(ctx, source, length, path, JS_EVAL_TYPE_MODULE);
    if (JS_IsException(result)) return report(ctx, JS_GetException(ctx));
    JSContext *job;
    while (JS_ExecutePendingJob(runtime, &job) > 0) continue;
    if (JS_PromiseState(ctx, result) == JS_PROMISE_REJECTED)
        return report(ctx, JS_PromiseResult(ctx, result));
    return 0; // without freeing anything: the instance ends here
}
