#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void echo(void) {
    char buffer[4096];
    size_t length;
    while ((length = fread(buffer, 1, sizeof buffer, stdin)) > 0) fwrite(buffer, 1, length, stdout);
}

int main(void) {
    const char *path = getenv("PATH_INFO"), *query = getenv("QUERY_STRING");
    printf("Content-Type: text/plain\n\n");
    if (strcmp(path, "/echo") == 0) {
        echo();
        return 0;
    }
    const char *name = strncmp(query, "name=", 5) == 0 ? query + 5 : "world";
    printf("Hello, %.*s!\n", (int)strcspn(name, "&"), name);
    return 0;
}
