/* Works for a while before any request, and counts what it has been asked. */
#include <stdio.h>
#include <stdlib.h>

static unsigned long long sum;
static char *text;
static int count;

__attribute__((constructor)) static void prepare(void) {
    for (unsigned i = 0; i < 3000000; i++) sum += (unsigned long long)i * i ^ (sum >> 3);
    text = malloc(200000);
    for (int i = 0; i < 200000; i++) text[i] = 'a' + i % 26;
}

__attribute__((export_name("handle"))) void handle(void) {
    printf("Content-Type: text/plain\n\n%llx %.5s %d %s\n", sum, text + 150000, ++count,
           getenv("QUERY_STRING"));
    fflush(stdout);
}
