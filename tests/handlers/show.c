/* Prints the file that the query names: /show?a.txt; with a + in front it writes to it first. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
    char path[512], buffer[4096];
    const char *query = getenv("QUERY_STRING");
    int writes = *query == '+';
    printf("Content-Type: text/plain\n\n");
    snprintf(path, sizeof path, "/%s", query + writes);
    FILE *file = fopen(path, writes ? "w" : "r");
    if (!file) {
        printf("%s: %s\n", path, strerror(errno));
        return 0;
    }
    if (writes) printf("%d\n", fputs("written", file));
    else fwrite(buffer, 1, fread(buffer, 1, sizeof buffer, file), stdout);
    fclose(file);
    return 0;
}
