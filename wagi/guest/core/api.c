#define _GNU_SOURCE
#include "api.h"

#include <dlfcn.h>

wasmtime_api_t wasmtime;

const char *api_load(const char *library_path) {
  void *library = dlopen(library_path, RTLD_NOW | RTLD_NOLOAD);
  if (!library) return library_path;
#define X(name, result, parameters)                                                                \
  if (!(*(void **)&wasmtime.name = dlsym(library, "wasmtime_" #name))) return "wasmtime_" #name;
  WASMTIME_API(X)
#undef X
  if (!(*(void **)&wasmtime.wasi_config_new = dlsym(library, "wasi_config_new")))
    return "wasi_config_new";
  if (!(*(void **)&wasmtime.trap_delete = dlsym(library, "wasm_trap_delete")))
    return "wasm_trap_delete";
  return NULL;
}
