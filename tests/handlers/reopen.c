/* Reopens the three standard streams onto files of a volume, as a program that logs to files does.
 *
 * The response is printed first: what is written after that is for the files. What went wrong is
 * written to /data/problems.txt.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(void) {
    char line[64] = "", text[64] = "";
    FILE *problems = fopen("/data/problems.txt", "w");
    printf("Content-Type: text/plain\n\nthe response\n");
    fflush(stdout);
    fprintf(stderr, "for the log\n");

    if (!freopen("/data/in.txt", "r", stdin)) fprintf(problems, "stdin: %s\n", strerror(errno));
    if (!fgets(line, sizeof line, stdin)) fprintf(problems, "fgets: %s\n", strerror(errno));
    if (!freopen("/data/out.txt", "w", stdout)) fprintf(problems, "stdout: %s\n", strerror(errno));
    printf("for the file: %s", line);
    fflush(stdout);
    /* Descriptor 1 itself is the file, not only the stream of the C library. */
    if (write(1, "written to 1\n", 13) != 13) fprintf(problems, "write: %s\n", strerror(errno));
    if (!freopen("/data/err.txt", "w", stderr)) fprintf(problems, "stderr: %s\n", strerror(errno));
    fprintf(stderr, "an error for the file\n");

    /* Read back what has just been written, through a descriptor of its own. */
    FILE *again = fopen("/data/out.txt", "r");
    if (!again || !fgets(text, sizeof text, again)) fprintf(problems, "back: %s\n", strerror(errno));
    fprintf(problems, "read back: %s", text);
    if (again) fclose(again);

    /* And once more: the descriptor that was moved can be moved over. */
    if (!freopen("/data/out2.txt", "w", stdout)) fprintf(problems, "again: %s\n", strerror(errno));
    printf("for the second file\n");
    fclose(stdout);
    fclose(problems);
    return 0;
}
