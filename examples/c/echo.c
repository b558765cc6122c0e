/* Echoes the request body with its content type.
 *
 *     python -m ziglang cc -target wasm32-wasi -O2 echo.c -o echo.wasm
 * or  /opt/wasi-sdk/bin/clang -O2 echo.c -o echo.wasm
 */
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    const char *type = getenv("CONTENT_TYPE");
    char buffer[64 * 1024];
    size_t length;

    printf("Content-Type: %s\n\n", type && *type ? type : "application/octet-stream");
    while ((length = fread(buffer, 1, sizeof buffer, stdin)) > 0)
        fwrite(buffer, 1, length, stdout);
    return 0;
}
