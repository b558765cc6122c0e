/* Sends the request that its body describes, by the five imports of wasi_experimental_http.
 *
 * Body: METHOD, a line; URL, a line; headers, a line each; an empty line; the body.
 * Query: hold=N sends it N times and keeps all responses open; room=N reads with a buffer of N
 * bytes; get=NAME prints a header; bad=CALL passes something wrong. Answers are lines of text.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IMPORT(name) __attribute__((import_module("wasi_experimental_http"), import_name(name)))

IMPORT("req")
uint32_t http_req(const char *url, size_t url_len, const char *method, size_t method_len,
                  const char *headers, size_t headers_len, const char *body, size_t body_len,
                  uint16_t *status, uint32_t *handle);
IMPORT("close") uint32_t http_close(uint32_t handle);
IMPORT("header_get")
uint32_t http_header_get(uint32_t handle, const char *name, size_t name_len, char *value,
                         size_t value_len, uint32_t *written);
IMPORT("headers_get_all")
uint32_t http_headers_get_all(uint32_t handle, char *buffer, size_t length, uint32_t *written);
IMPORT("body_read")
uint32_t http_body_read(uint32_t handle, char *buffer, size_t length, uint32_t *read);

static char request[1 << 20], buffer[1 << 20];

static const char *option(const char *name) {
    const char *query = getenv("QUERY_STRING"), *found = strstr(query, name);
    return found ? found + strlen(name) : NULL;
}

static char *line(char **rest) {
    char *start = *rest, *end = strchr(start, '\n');
    if (end) *end = 0;
    *rest = end ? end + 1 : start + strlen(start);
    return start;
}

static void bad(uint32_t handle, const char *call) {
    uint32_t count = 0;
    uint16_t status = 0;
    char *far = (char *)0xfffffff0;
    if (!strcmp(call, "handle")) {
        printf("%u\n", http_body_read(handle + 7, buffer, 10, &count));
        printf("%u\n", http_close(handle + 7));
        printf("%u\n", http_header_get(handle + 7, "a", 1, buffer, 10, &count));
        printf("%u\n", http_headers_get_all(handle + 7, buffer, 10, &count));
    } else if (!strcmp(call, "closed")) {
        printf("%u\n", http_close(handle));
        printf("%u\n", http_close(handle));
    } else if (!strcmp(call, "pointers")) {
        printf("%u\n", http_req(far, 100, "GET", 3, "", 0, "", 0, &status, &handle));
        printf("%u\n", http_req("http://x", 8, far, 100, "", 0, "", 0, &status, &handle));
        printf("%u\n", http_req("http://x", 8, "GET", 3, far, 100, "", 0, &status, &handle));
        printf("%u\n", http_req("http://x", 8, "GET", 3, "", 0, far, 100, &status, &handle));
        printf("%u\n", http_req("http://x", 8, "GET", 3, "", 0, "", 0, (uint16_t *)(far + 15), &handle));
        printf("%u\n", http_req("http://x", 8, "GET", 3, "", 0, "", 0, &status, (uint32_t *)(far + 14)));
        printf("%u\n", http_body_read(handle, far, 100, &count));
        printf("%u\n", http_body_read(handle, buffer, 10, (uint32_t *)(far + 14)));
        printf("%u\n", http_headers_get_all(handle, far, 1000, &count));
        printf("%u\n", http_header_get(handle, far, 100, buffer, 10, &count));
    } else if (!strcmp(call, "utf8")) {
        printf("%u\n", http_req("http://\xff", 8, "GET", 3, "", 0, "", 0, &status, &handle));
        printf("%u\n", http_req("http://x", 8, "\xff\xff", 2, "", 0, "", 0, &status, &handle));
        printf("%u\n", http_header_get(handle, "\xff", 1, buffer, 10, &count));
    } else if (!strcmp(call, "room")) {
        printf("%u\n", http_header_get(handle, "content-type", 12, buffer, 3, &count));
        printf("%u\n", http_headers_get_all(handle, buffer, 3, &count));
        printf("%u\n", http_header_get(handle, "nowhere", 7, buffer, 3, &count));
        printf("%u\n", http_body_read(handle, buffer, 0, &count));
    }
}

int main(void) {
    size_t length = fread(request, 1, sizeof request - 1, stdin);
    request[length] = 0;
    char *rest = request, *method = line(&rest), *url = line(&rest), *headers = rest;
    char *end = strstr(rest, "\n\n");
    char *body = end ? end + 2 : rest;
    size_t headers_len = end ? (size_t)(end + 1 - headers) : 0;
    if (*headers == '\n') body = headers + 1, headers_len = 0;
    size_t body_len = request + length - body;
    int times = option("hold=") ? atoi(option("hold=")) : 1;
    size_t room = option("room=") ? strtoul(option("room="), NULL, 10) : sizeof buffer;
    uint32_t handle = 0, count = 0, failure = 0;
    uint16_t status = 0;
    printf("Content-Type: text/plain\n\n");
    for (int i = 0; i < times; i++) {
        failure = http_req(url, strlen(url), method, strlen(method), headers, headers_len, body,
                           body_len, &status, &handle);
        printf("req %u\n", failure);
    }
    if (option("bad=")) bad(handle, option("bad="));
    if (failure) return 0;
    printf("status %u\n", status);
    if (option("get=")) {
        const char *name = option("get=");
        failure = http_header_get(handle, name, strlen(name), buffer, sizeof buffer, &count);
        printf("header %u %.*s\n", failure, (int)count, buffer);
    }
    if (option("all")) {
        failure = http_headers_get_all(handle, buffer, sizeof buffer, &count);
        printf("headers %u\n%.*s", failure, (int)count, buffer);
    }
    if (option("bad=")) return 0;
    printf("body\n");
    size_t total = 0;
    while (!(failure = http_body_read(handle, buffer, room, &count)) && count) {
        total += count;
        if (!option("count")) fwrite(buffer, 1, count, stdout);
    }
    printf("\nend %u %zu\n", failure, total);
    printf("close %u\n", http_close(handle));
    return 0;
}
