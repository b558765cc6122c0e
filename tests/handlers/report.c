/* Reports what it was asked: the method and the path, a newline, and the request body. Its first
   output follows the end of the body. A line on stderr says that it has run. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(void) {
    size_t size = 0, room = 4096;
    char *body = malloc(room);
    ssize_t length;
    fprintf(stderr, "ran\n");
    while ((length = read(0, body + size, room - size)) > 0) {
        size += length;
        if (size == room) body = realloc(body, room *= 2);
    }
    printf("Content-Type: text/plain\n\n");
    printf("%s %s\n", getenv("REQUEST_METHOD"), getenv("X_RAW_PATH_INFO"));
    fwrite(body, 1, size, stdout);
    return 0;
}
