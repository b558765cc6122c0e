/* Prints a whole response and ends with the status of its argument, in the way of the other one.
 *
 * _exit: at once; exit: after the streams were flushed; late: after a pause in the middle of the
 * body; constructor: before main.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void respond(void) {
    printf("Content-Type: text/plain\n\nbegin\n");
    fflush(stdout);
}

__attribute__((constructor)) static void before_main(void) {
    const char *status = getenv("EXIT_IN_CONSTRUCTOR");
    if (!status) return;
    respond();
    printf("end\n");
    fflush(stdout);
    _exit(atoi(status));
}

int main(int count, char **arguments) {
    if (count != 3) return 99;
    int status = atoi(arguments[2]);
    respond();
    if (!strcmp(arguments[1], "late")) usleep(100 * 1000);
    printf("end\n");
    if (!strcmp(arguments[1], "exit")) exit(status);
    fflush(stdout);
    _exit(status);
}
