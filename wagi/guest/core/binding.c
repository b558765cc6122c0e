/* The core as a Python module, wagi.guest.core._core: the functions that wagi.guest.capi calls.
 * Addresses are integers, which never leave that package. The module uses the limited API, so one
 * binary works with all versions of Python from 3.11 on.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <string.h>

#include "api.h"
#include "clock.h"
#include "environment.h"
#include "memory.h"
#include "store.h"

static void *address(PyObject *number) { return PyLong_AsVoidPtr(number); }

/* Return the store at an address, or NULL with an exception if it has been closed. */
static store_t *open_store(PyObject *number) {
  store_t *store = address(number);
  if (!store && !PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "the store is closed");
  return store;
}

/* Read a bytes object of NUL-terminated strings. Returns false with an exception if the last string
 * is not terminated. */
static bool strings(PyObject *block, strings_t *result) {
  char *bytes;
  Py_ssize_t size;
  if (PyBytes_AsStringAndSize(block, &bytes, &size) < 0) return false;
  size_t count = 0;
  for (const char *at = bytes, *end = bytes + size; at < end; count++) {
    const char *nul = memchr(at, 0, (size_t)(end - at));
    if (!nul) {
      PyErr_SetString(PyExc_ValueError, "the last string is not ended by a NUL");
      return false;
    }
    at = nul + 1;
  }
  *result = (strings_t){(const uint8_t *)bytes, (size_t)size, count};
  return true;
}

static PyObject *load(PyObject *module, PyObject *path) {
  PyObject *encoded;
  if (!PyUnicode_FSConverter(path, &encoded)) return NULL;
  const char *missing = api_load(PyBytes_AsString(encoded));
  PyObject *result = NULL;
  if (missing)
    PyErr_Format(PyExc_ImportError, "%s is missing", missing);
  else
    result = Py_NewRef(Py_None);
  Py_DECREF(encoded);
  return result;
}

static PyObject *core_clock_add(PyObject *module, PyObject *engine) {
  return clock_add(address(engine)) ? Py_NewRef(Py_None) : PyErr_NoMemory();
}

static PyObject *core_clock_remove(PyObject *module, PyObject *engine) {
  clock_remove(address(engine));
  Py_RETURN_NONE;
}

static PyObject *core_clock_configure(PyObject *module, PyObject *arguments) {
  double tick, calm_tick;
  if (!PyArg_ParseTuple(arguments, "dd", &tick, &calm_tick)) return NULL;
  clock_configure(tick, calm_tick);
  Py_RETURN_NONE;
}

static PyObject *core_memory_configure(PyObject *module, PyObject *config) {
  memory_configure(address(config));
  Py_RETURN_NONE;
}

static PyObject *core_memory_self_test(PyObject *module, PyObject *unused) {
  const char *fault = memory_self_test();
  return fault ? PyUnicode_FromString(fault) : Py_NewRef(Py_None);
}

static PyObject *core_memory_method(PyObject *module, PyObject *unused) {
  return PyUnicode_FromString(memory_method());
}

static PyObject *core_image_new(PyObject *module, PyObject *arguments) {
  const char *bytes;
  Py_ssize_t size;
  unsigned long long offset, memory_size;
  if (!PyArg_ParseTuple(arguments, "y#KK", &bytes, &size, &offset, &memory_size)) return NULL;
  image_t *image = image_new((const uint8_t *)bytes, offset, (uint64_t)size, memory_size);
  return image ? PyLong_FromVoidPtr(image) : PyErr_NoMemory();
}

static PyObject *core_image_delete(PyObject *module, PyObject *image) {
  image_delete(address(image));
  Py_RETURN_NONE;
}

static PyObject *core_host_call(PyObject *module, PyObject *name) {
  PyObject *encoded = PyUnicode_AsUTF8String(name);
  if (!encoded) return NULL;
  bool is_async;
  void *call = host_call(PyBytes_AsString(encoded), &is_async);
  Py_DECREF(encoded);
  return call ? Py_BuildValue("(NO)", PyLong_FromVoidPtr(call), is_async ? Py_True : Py_False)
              : Py_NewRef(Py_None);
}

/* plan_new(engine, pre, image, exports, memory, elements, tables, memories, output_limit, slice,
 *          slice_ticks, needs_wasi, has_preopens, has_allocator, has_result, argument_count,
 *          argument, argument)
 * The plan borrows `exports`, which must outlive it. */
static PyObject *core_plan_new(PyObject *module, PyObject *arguments) {
  plan_t plan = {0};
  unsigned long long engine, pre, image;
  long long memory, elements, tables, memories;
  unsigned long long output_limit, slice_ticks;
  PyObject *exports;
  int needs_wasi, has_preopens, has_allocator, has_result;
  unsigned int argument_count, first, second;
  if (!PyArg_ParseTuple(arguments, "KKKOLLLLKdKppppIII", &engine, &pre, &image, &exports, &memory,
                        &elements, &tables, &memories, &output_limit, &plan.slice, &slice_ticks,
                        &needs_wasi, &has_preopens, &has_allocator, &has_result, &argument_count,
                        &first, &second) ||
      !strings(exports, &plan.exports))
    return NULL;
  plan.engine = (void *)(uintptr_t)engine;
  plan.pre = (void *)(uintptr_t)pre;
  plan.image = (void *)(uintptr_t)image;
  plan.memory_limit = memory;
  plan.element_limit = elements;
  plan.table_limit = tables;
  plan.memory_count_limit = memories;
  plan.output_limit = output_limit;
  plan.slice_ticks = slice_ticks;
  plan.needs_wasi = needs_wasi;
  plan.has_preopens = has_preopens;
  plan.has_allocator = has_allocator;
  plan.has_result = has_result;
  plan.argument_count = argument_count < 2 ? argument_count : 2;
  plan.arguments[0].of.i32 = first;
  plan.arguments[1].of.i32 = second;
  plan_t *made = PyMem_Malloc(sizeof plan);
  if (!made) return PyErr_NoMemory();
  *made = plan;
  return PyLong_FromVoidPtr(made);
}

static PyObject *core_plan_delete(PyObject *module, PyObject *plan) {
  PyMem_Free(address(plan));
  Py_RETURN_NONE;
}

/* open(plan, arguments, environment)
 * The store borrows the bytes, which must live until close. */
static PyObject *core_open(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  strings_t argv, environment;
  if (count != 3) return PyErr_Format(PyExc_TypeError, "open expects 3 arguments");
  if (!strings(arguments[1], &argv) || !strings(arguments[2], &environment)) return NULL;
  store_t *store = store_open(address(arguments[0]), argv, environment);
  return store ? PyLong_FromVoidPtr(store) : PyErr_NoMemory();
}

/* poll(store, memory_limit)
 * Returns the state and the size of the exported memory, None before instantiation ends.
 * The GIL is held throughout: a slice is short, the clock thread does not need it, and host calls
 * in Python do. */
static PyObject *core_poll(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  if (count != 2) return PyErr_Format(PyExc_TypeError, "poll expects 2 arguments");
  store_t *store = open_store(arguments[0]);
  int64_t memory = PyLong_AsLongLong(arguments[1]);
  if (PyErr_Occurred()) return NULL;
  store_limit_memory(store, memory);
  store_state_t state = store_poll(store);
  int64_t size = store_memory_size(store);
  return size < 0 ? Py_BuildValue("iO", state, Py_None) : Py_BuildValue("iL", state, size);
}

static PyObject *core_set_input(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  char *bytes;
  Py_ssize_t size;
  if (count != 2) return PyErr_Format(PyExc_TypeError, "set_input expects 2 arguments");
  store_t *store = open_store(arguments[0]);
  if (!store || PyBytes_AsStringAndSize(arguments[1], &bytes, &size) < 0) return NULL;
  store_set_input(store, (const uint8_t *)bytes, (size_t)size);
  Py_RETURN_NONE;
}

static PyObject *core_is_readable(PyObject *module, PyObject *number) {
  store_t *store = open_store(number);
  return store ? PyBool_FromLong(store->input_ended || store->input_size) : NULL;
}

static PyObject *core_end_input(PyObject *module, PyObject *number) {
  store_t *store = open_store(number);
  if (!store) return NULL;
  store->input_ended = true;
  Py_RETURN_NONE;
}

/* take_input(store, size)
 * Removes and returns at most `size` bytes. */
static PyObject *core_take_input(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  if (count != 2) return PyErr_Format(PyExc_TypeError, "take_input expects 2 arguments");
  store_t *store = open_store(arguments[0]);
  size_t size = PyLong_AsSize_t(arguments[1]);
  if (PyErr_Occurred()) return NULL;
  if (size > store->input_size) size = store->input_size;
  PyObject *taken = PyBytes_FromStringAndSize((const char *)store->input, (Py_ssize_t)size);
  if (taken) store_set_input(store, store->input + size, store->input_size - size);
  return taken;
}

static PyObject *core_take_output(PyObject *module, PyObject *number) {
  store_t *store = open_store(number);
  if (!store) return NULL;
  PyObject *taken =
      PyBytes_FromStringAndSize((const char *)store->output, (Py_ssize_t)store->output_size);
  if (taken) store->output_size = 0;
  return taken;
}

static PyObject *core_output_room(PyObject *module, PyObject *number) {
  store_t *store = open_store(number);
  if (!store) return NULL;
  return PyLong_FromUnsignedLongLong(store->plan->output_limit - store->output_size);
}

static PyObject *core_write_output(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  char *bytes;
  Py_ssize_t size;
  if (count != 2) return PyErr_Format(PyExc_TypeError, "write_output expects 2 arguments");
  store_t *store = open_store(arguments[0]);
  if (!store || PyBytes_AsStringAndSize(arguments[1], &bytes, &size) < 0) return NULL;
  bool is_written = store_write_output(store, (const uint8_t *)bytes, (size_t)size);
  return is_written ? Py_NewRef(Py_None) : PyErr_NoMemory();
}

static PyObject *core_close(PyObject *module, PyObject *number) {
  store_t *store = open_store(number);
  if (!store) return NULL;
  store_close(store);
  Py_RETURN_NONE;
}

/* Return the text of a str or bytes object. The object keeps it alive. Any other object, and a str
 * that is not valid Unicode, counts as a failure, without an exception. */
static bool text_of(PyObject *object, text_t *text) {
  Py_ssize_t size = 0;
  if (PyUnicode_Check(object)) {
    text->bytes = PyUnicode_AsUTF8AndSize(object, &size);
    if (!text->bytes) PyErr_Clear();
  } else if (PyBytes_Check(object)) {
    text->bytes = PyBytes_AsString(object);
    size = PyBytes_Size(object);
  } else {
    text->bytes = NULL;
  }
  text->size = (size_t)size;
  return text->bytes != NULL;
}

/* Read a RequestHead (wagi.cgi.environment). Returns false if it has other types, or too many
 * headers. */
static bool request_head(PyObject *tuple, request_head_t *head) {
  enum { QUERY = 2, HEADERS = 4, CONTENT_LENGTH = 5, FIELDS = 12 };
  text_t *texts[FIELDS] = {
      &head->method,     &head->path,        &head->query,       &head->protocol,
      NULL,              NULL,               &head->scheme,      &head->server_name,
      &head->server_port, &head->remote_address, &head->remote_port, &head->server_address,
  };
  if (!PyTuple_Check(tuple) || PyTuple_Size(tuple) != FIELDS) return false;
  head->has_query = PyTuple_GetItem(tuple, QUERY) != Py_None;
  head->query = (text_t){"", 0};
  for (Py_ssize_t i = 0; i < FIELDS; i++) {
    if (texts[i] && (i != QUERY || head->has_query) &&
        !text_of(PyTuple_GetItem(tuple, i), texts[i]))
      return false;
  }
  head->content_length = PyLong_AsUnsignedLongLong(PyTuple_GetItem(tuple, CONTENT_LENGTH));
  if (PyErr_Occurred()) return PyErr_Clear(), false;
  PyObject *headers = PyTuple_GetItem(tuple, HEADERS);
  if (!PyTuple_Check(headers) || PyTuple_Size(headers) > MAX_HEADERS) return false;
  head->header_count = (size_t)PyTuple_Size(headers);
  for (size_t i = 0; i < head->header_count; i++) {
    PyObject *header = PyTuple_GetItem(headers, (Py_ssize_t)i);
    if (!PyTuple_Check(header) || PyTuple_Size(header) != 2 ||
        !text_of(PyTuple_GetItem(header, 0), &head->headers[i].name) ||
        !text_of(PyTuple_GetItem(header, 1), &head->headers[i].value))
      return false;
  }
  return true;
}

/* environment(fixed, head, path_info, pass_authorization)
 * Returns None if Python has to build it. */
static PyObject *core_environment(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  char buffer[MAX_ENVIRONMENT];
  request_head_t head;
  text_t fixed, path_info;
  if (count != 4) return PyErr_Format(PyExc_TypeError, "environment expects 4 arguments");
  if (!text_of(arguments[0], &fixed) || !request_head(arguments[1], &head) ||
      !text_of(arguments[2], &path_info))
    Py_RETURN_NONE;
  int pass_authorization = PyObject_IsTrue(arguments[3]);
  if (pass_authorization < 0) return NULL;
  size_t size = environment_write(buffer, fixed, &head, path_info, pass_authorization);
  return size ? PyBytes_FromStringAndSize(buffer, (Py_ssize_t)size) : Py_NewRef(Py_None);
}

#define FAST(name) {#name, (PyCFunction)(void (*)(void))core_##name, METH_FASTCALL, NULL}
static PyMethodDef methods[] = {
    {"load", load, METH_O, NULL},
    {"clock_add", core_clock_add, METH_O, NULL},
    {"clock_remove", core_clock_remove, METH_O, NULL},
    {"clock_configure", core_clock_configure, METH_VARARGS, NULL},
    {"memory_configure", core_memory_configure, METH_O, NULL},
    {"memory_self_test", core_memory_self_test, METH_NOARGS, NULL},
    {"memory_method", core_memory_method, METH_NOARGS, NULL},
    {"image_new", core_image_new, METH_VARARGS, NULL},
    {"image_delete", core_image_delete, METH_O, NULL},
    {"host_call", core_host_call, METH_O, NULL},
    {"plan_new", core_plan_new, METH_VARARGS, NULL},
    {"plan_delete", core_plan_delete, METH_O, NULL},
    FAST(open),
    FAST(poll),
    FAST(set_input),
    {"end_input", core_end_input, METH_O, NULL},
    {"is_readable", core_is_readable, METH_O, NULL},
    FAST(take_input),
    {"take_output", core_take_output, METH_O, NULL},
    {"output_room", core_output_room, METH_O, NULL},
    FAST(write_output),
    {"close", core_close, METH_O, NULL},
    FAST(environment),
    {NULL, NULL, 0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_core", "The compiled core of wagi.guest.", -1, methods, NULL, NULL,
    NULL, NULL,
};

PyMODINIT_FUNC PyInit__core(void) { return PyModule_Create(&definition); }
