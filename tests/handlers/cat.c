/* Sends the body back as it comes, or counts it: /cat?count */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char buffer[64 * 1024];

int main(void) {
    long long total = 0;
    ssize_t length;
    int count = strcmp(getenv("QUERY_STRING"), "count") == 0;
    printf("Content-Type: text/plain\n\n");
    fflush(stdout);
    while ((length = read(0, buffer, sizeof buffer)) > 0) {
        total += length;
        if (!count) write(1, buffer, length);
    }
    if (count) printf("%lld\n", total);
    return 0;
}
