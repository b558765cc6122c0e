/* Shows a request as the handler gets it: method, query and headers, one per line, then the body. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

static int compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int main(void) {
    size_t count = 0;
    int letter;
    while (environ[count]) count++;
    qsort(environ, count, sizeof *environ, compare);
    printf("Content-Type: text/plain\n\n%s %s %s\n", getenv("REQUEST_METHOD"), getenv("PATH_INFO"),
           getenv("QUERY_STRING"));
    for (size_t i = 0; i < count; i++)
        if (!strncmp(environ[i], "HTTP_", 5) || !strncmp(environ[i], "CONTENT_TYPE=", 13))
            puts(environ[i]);
    puts("");
    while ((letter = getchar()) != EOF) putchar(letter);
    return 0;
}
