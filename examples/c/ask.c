// Requests the URL in the query and passes the response on: /ask?https://api.example.com/
//
// The key allowed_hosts in modules.toml lists the hosts that a handler may call.
//
//     zig cc -target wasm32-wasi -O2 ask.c -o ask.wasm

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IMPORT(name) __attribute__((import_module("wasi_experimental_http"), import_name(name)))

IMPORT("req")
uint32_t http_req(const char *url, size_t url_length, const char *method, size_t method_length,
                  const char *headers, size_t headers_length, const char *body, size_t body_length,
                  uint16_t *status, uint32_t *handle);
IMPORT("body_read")
uint32_t http_body_read(uint32_t handle, char *buffer, size_t length, uint32_t *count);
IMPORT("close") uint32_t http_close(uint32_t handle);

int main(void) {
    const char *url = getenv("QUERY_STRING"), *headers = "x-from:c\n";
    static char buffer[4096];
    uint16_t status = 502;
    uint32_t handle, count;
    uint32_t failure =
        http_req(url, strlen(url), "GET", 3, headers, strlen(headers), "", 0, &status, &handle);
    printf("Content-Type: text/plain\nStatus: %u\n\n", status);
    if (failure) {
        printf("failure %u\n", failure);
        return 0;
    }
    while (!(failure = http_body_read(handle, buffer, sizeof buffer, &count)) && count > 0)
        fwrite(buffer, 1, count, stdout);
    http_close(handle);
    return failure != 0;
}
