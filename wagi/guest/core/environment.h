/* The simple case of building a guest's environment from a request. The reference implementation in
 * Python is wagi.cgi.environment.RouteVariables.environment, which handles all cases.
 */
#ifndef WAGI_CORE_ENVIRONMENT_H
#define WAGI_CORE_ENVIRONMENT_H

#include <stdbool.h>
#include <stddef.h>

enum { MAX_HEADERS = 128, MAX_ENVIRONMENT = 16 * 1024 };

typedef struct {
  const char *bytes;
  size_t size;
} text_t;

typedef struct {
  text_t name, value;
} header_t;

/* The fields of wagi.cgi.environment.RequestHead. */
typedef struct {
  text_t method, path, query, protocol;
  bool has_query;
  header_t headers[MAX_HEADERS];
  size_t header_count;
  unsigned long long content_length;
  text_t scheme, server_name, server_port;
  text_t remote_address, remote_port, server_address;
} request_head_t;

/* Write the variables of a request, each as NAME=value and terminated by a NUL.
 *
 * `fixed` has the variables of the route, `path_info` the part of the path that follows SCRIPT_NAME.
 * Returns the size in bytes, or 0 if Python has to build them: if a text has a NUL, a header is
 * repeated or not in ASCII, the path is percent-encoded, or the variables do not fit. */
size_t environment_write(char to[MAX_ENVIRONMENT], text_t fixed, const request_head_t *head,
                         text_t path_info, bool pass_authorization);

#endif
