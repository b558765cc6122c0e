/* Uses the standard streams as its arguments say: WORD=NUMBER for each.
 *
 * What the calls have returned is written to stderr, or to stdout if stderr is what is tested.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static FILE *report;

static void say(const char *what, long long result) {
    if (result < 0) fprintf(report, "%s: %s\n", what, strerror(errno));
    else fprintf(report, "%s: %lld\n", what, result);
}

/* Writes lines of 100 bytes, numbered, in one call. */
static void write_lines(int fd, size_t size) {
    char *data = malloc(size + 101);
    for (size_t at = 0; at < size; at += 100)
        snprintf(data + at, 101, "%08zu%91s\n", at / 100, "");
    say("write", write(fd, data, size));
    free(data);
}

static void write_vectors(int fd, int count) {
    struct iovec *vectors = calloc(count, sizeof *vectors);
    for (int i = 0; i < count; i++) {
        vectors[i].iov_base = malloc(11);
        vectors[i].iov_len = snprintf(vectors[i].iov_base, 11, "%09d\n", i);
    }
    say("writev", writev(fd, vectors, count));
}

/* Every kind of call on a standard descriptor that has been closed. */
static void use_closed(int fd) {
    struct stat info;
    char byte = 'x';
    say("close", close(fd));
    say("close again", close(fd));
    say("read", read(fd, &byte, 1));
    say("write", write(fd, &byte, 1));
    say("fstat", fstat(fd, &info));
    say("fcntl", fcntl(fd, F_GETFL));
    say("lseek", lseek(fd, 0, SEEK_CUR));
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    int ready = poll(&wanted, 1, 0);
    say("poll", ready);
    say("revents is POLLNVAL", ready == 1 && wanted.revents == POLLNVAL);
}

static void close_stdout(void) {
    printf("the end\n");
    say("fclose", fclose(stdout));
    say("write", write(STDOUT_FILENO, "lost\n", 5));
}

int main(int count, char **arguments) {
    report = stderr;
    printf("Content-Type: text/plain\n\n");
    fflush(stdout);
    for (int i = 1; i < count; i++) {
        char *value = strchr(arguments[i], '=');
        long number = value ? strtol(value + 1, NULL, 10) : 0;
        if (!strncmp(arguments[i], "stdout=", 7)) write_lines(STDOUT_FILENO, number);
        if (!strncmp(arguments[i], "stderr=", 7)) report = stdout, write_lines(STDERR_FILENO, number);
        if (!strncmp(arguments[i], "writev=", 7)) write_vectors(STDOUT_FILENO, number);
        if (!strncmp(arguments[i], "fclose=", 7)) close_stdout();
        if (!strncmp(arguments[i], "closed=", 7)) {
            if (number == STDERR_FILENO) report = stdout;
            use_closed(number);
        }
    }
    return 0;
}
