#include "environment.h"

#include <stdio.h>
#include <string.h>

/* An output buffer. After an overflow it ignores writes. */
typedef struct {
  char *bytes;
  size_t size;
  bool has_overflowed;
} writer_t;

static void put(writer_t *writer, const char *bytes, size_t size) {
  if (size > MAX_ENVIRONMENT - writer->size) writer->has_overflowed = true;
  if (writer->has_overflowed || size == 0) return;
  memcpy(writer->bytes + writer->size, bytes, size);
  writer->size += size;
}

static void put_text(writer_t *writer, text_t text) { put(writer, text.bytes, text.size); }

/* Write the end of a value and the beginning of the next variable. */
#define NEXT(writer, name) put(writer, "\0" name "=", sizeof "\0" name "=" - 1)

static bool equals(text_t text, const char *other) {
  return text.size == strlen(other) && !memcmp(text.bytes, other, text.size);
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c; }

static bool equals_ignoring_case(text_t text, const char *lowercase) {
  if (text.size != strlen(lowercase)) return false;
  for (size_t i = 0; i < text.size; i++)
    if (lower(text.bytes[i]) != lowercase[i]) return false;
  return true;
}

static bool has_nul(text_t text) { return text.size && memchr(text.bytes, 0, text.size); }

static bool is_plain(text_t text) { /* ASCII without a NUL */
  for (size_t i = 0; i < text.size; i++)
    if ((signed char)text.bytes[i] <= 0) return false;
  return true;
}

/* As DROPPED_HEADERS in wagi.cgi.environment. */
static bool is_dropped(text_t name, bool pass_authorization) {
  return (name.size && memchr(name.bytes, '_', name.size)) ||
         equals_ignoring_case(name, "connection") || equals_ignoring_case(name, "proxy") ||
         equals_ignoring_case(name, "proxy-authorization") ||
         equals_ignoring_case(name, "transfer-encoding") ||
         (!pass_authorization && equals_ignoring_case(name, "authorization"));
}

/* Write HTTP_NAME=value. Returns false if Python has to do it. */
static bool put_header(writer_t *writer, header_t header, text_t *variable) {
  if (!is_plain(header.name) || !is_plain(header.value)) return false;
  size_t start = writer->size;
  put(writer, "HTTP_", 5);
  size_t name = writer->size;
  put_text(writer, header.name);
  put(writer, "=", 1);
  put_text(writer, header.value);
  put(writer, "", 1);
  if (writer->has_overflowed) return false;
  for (char *at = writer->bytes + name, *end = at + header.name.size; at < end; at++) {
    if (*at >= 'a' && *at <= 'z') *at = (char)(*at - ('a' - 'A'));
    if (*at == '-') *at = '_';
  }
  *variable = (text_t){writer->bytes + start, name - start + header.name.size};
  return true;
}

static bool put_headers(writer_t *writer, const request_head_t *head, bool pass_authorization) {
  text_t variables[MAX_HEADERS];
  size_t count = 0;
  for (size_t i = 0; i < head->header_count; i++) {
    if (is_dropped(head->headers[i].name, pass_authorization)) continue;
    text_t *variable = &variables[count];
    if (!put_header(writer, head->headers[i], variable)) return false;
    for (size_t j = 0; j < count; j++) {
      if (variables[j].size == variable->size &&
          !memcmp(variables[j].bytes, variable->bytes, variable->size))
        return false; /* repeated */
    }
    count++;
  }
  return true;
}

size_t environment_write(char to[MAX_ENVIRONMENT], text_t fixed, const request_head_t *head,
                         text_t path_info, bool pass_authorization) {
  writer_t output = {to, 0, false}, *writer = &output;
  bool is_https = equals(head->scheme, "https");
  if (head->header_count > MAX_HEADERS || !(is_https || equals(head->scheme, "http"))) return 0;
  const text_t texts[] = {head->method,      head->path,        head->query,
                          head->protocol,    head->server_name, head->server_port,
                          path_info,         head->remote_port, head->remote_address,
                          head->server_address};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    if (has_nul(texts[i])) return 0;
  if (path_info.size && memchr(path_info.bytes, '%', path_info.size)) return 0;
  text_t content_type = {"", 0};
  for (size_t i = 0; i < head->header_count; i++)
    if (equals_ignoring_case(head->headers[i].name, "content-type"))
      content_type = head->headers[i].value;
  text_t question_mark = {"?", head->has_query ? 1 : 0};
  bool is_default_port = equals(head->server_port, is_https ? "443" : "80");
  char length[24];
  int digits = snprintf(length, sizeof length, "%llu", head->content_length);

  put_text(writer, fixed);
  put(writer, "SERVER_PROTOCOL=", 16), put_text(writer, head->protocol);
  NEXT(writer, "SERVER_NAME"), put_text(writer, head->server_name);
  NEXT(writer, "SERVER_PORT"), put_text(writer, head->server_port);
  NEXT(writer, "SERVER_ADDR"), put_text(writer, head->server_address);
  NEXT(writer, "REQUEST_METHOD"), put_text(writer, head->method);
  NEXT(writer, "REQUEST_URI"), put_text(writer, head->path);
  put_text(writer, question_mark), put_text(writer, head->query);
  NEXT(writer, "REQUEST_SCHEME"), put_text(writer, head->scheme);
  NEXT(writer, "PATH_INFO"), put_text(writer, path_info);
  NEXT(writer, "X_RAW_PATH_INFO"), put_text(writer, path_info);
  NEXT(writer, "PATH_TRANSLATED"), put_text(writer, path_info);
  NEXT(writer, "QUERY_STRING"), put_text(writer, head->query);
  NEXT(writer, "X_FULL_URL"), put_text(writer, head->scheme);
  put(writer, "://", 3), put_text(writer, head->server_name);
  if (!is_default_port) put(writer, ":", 1), put_text(writer, head->server_port);
  put_text(writer, head->path), put_text(writer, question_mark), put_text(writer, head->query);
  NEXT(writer, "CONTENT_LENGTH"), put(writer, length, (size_t)digits);
  NEXT(writer, "CONTENT_TYPE"), put_text(writer, content_type);
  NEXT(writer, "REMOTE_ADDR"), put_text(writer, head->remote_address);
  NEXT(writer, "REMOTE_HOST"), put_text(writer, head->remote_address);
  NEXT(writer, "REMOTE_PORT"), put_text(writer, head->remote_port);
  if (is_https) NEXT(writer, "HTTPS"), put(writer, "on", 2);
  put(writer, "", 1);
  if (!put_headers(writer, head, pass_authorization)) return 0;
  return output.has_overflowed ? 0 : output.size;
}
