/* A minimal handler.
 *
 *     python -m ziglang cc -target wasm32-wasi -O2 hello.c -o hello.wasm
 */
#include <stdio.h>

int main(void) {
    puts("Content-Type: text/plain\n\nHello from C!");
    return 0;
}
