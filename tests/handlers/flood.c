/* Prints as many MiB as the query says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char buffer[64 * 1024];

int main(void) {
    long pieces = atol(getenv("QUERY_STRING")) * 16;
    memset(buffer, 'x', sizeof buffer);
    printf("Content-Type: application/octet-stream\n\n");
    fflush(stdout);
    while (pieces-- > 0) write(1, buffer, sizeof buffer);
    return 0;
}
