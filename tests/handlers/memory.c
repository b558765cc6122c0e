/* Allocates until it cannot, and says how many MiB it got. */
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    int got = 0;
    volatile char *piece;
    while ((piece = malloc(1024 * 1024))) {
        *piece = 1; /* a compiler leaves out an unused allocation */
        got++;
    }
    printf("Content-Type: text/plain\n\n%d\n", got);
    return 0;
}
