/* Tries what each word of the query says, OPERATION:PATH or OPERATION:PATH:PATH, and prints what
 * came of it: "ok", what it read, or the error. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

static int answer(int failed) {
    if (failed) printf("%s\n", strerror(errno));
    else puts("ok");
    return failed;
}

static void show(const char *path) {
    char buffer[4096];
    int fd = open(path, O_RDONLY);
    if (fd < 0) {
        answer(1);
        return;
    }
    ssize_t length = read(fd, buffer, sizeof buffer - 1);
    if (length < 0) answer(1);
    else printf("%.*s\n", (int)length, buffer);
    close(fd);
}

static void list(const char *path) {
    DIR *folder = opendir(path);
    if (!folder) {
        answer(1);
        return;
    }
    struct dirent *entry;
    while ((entry = readdir(folder))) printf("%s ", entry->d_name);
    puts("");
    closedir(folder);
}

static void descriptors(void) {
    struct stat info;
    int open_ones = 0;
    for (int fd = 3; fd < 1000; fd++) open_ones += fstat(fd, &info) == 0;
    printf("%d\n", open_ones);
}

static void hoard(const char *path) {
    int count = 0, fd, last = -1;
    while (count < 100000 && (fd = open(path, O_RDONLY)) >= 0) count++, last = fd;
    int failed = errno;
    close(last);
    printf("%d, then %s, %s after a close\n", count, strerror(failed),
           open(path, O_RDONLY) >= 0 ? "one more" : "none");
}

static void overwrite(const char *path, int flags) {
    int fd = open(path, O_WRONLY | flags, 0644);
    if (answer(fd < 0)) return;
    if (write(fd, "burgled", 7) != 7) puts("short");
    close(fd);
}

int main(int argc, char **argv) {
    puts("Content-Type: text/plain\n");
    for (int i = 1; i < argc; i++) {
        char *operation = strtok(argv[i], ":"), *path = strtok(NULL, ":"), *other = strtok(NULL, ":");
        printf("%s %s%s%s -> ", operation, path ? path : "", other ? " " : "", other ? other : "");
        if (!strcmp(operation, "read")) show(path);
        else if (!strcmp(operation, "list")) list(path);
        else if (!strcmp(operation, "create")) overwrite(path, O_CREAT | O_EXCL);
        else if (!strcmp(operation, "overwrite")) overwrite(path, 0);
        else if (!strcmp(operation, "truncate")) answer(truncate(path, 0));
        else if (!strcmp(operation, "symlink")) answer(symlink(path, other));
        else if (!strcmp(operation, "link")) answer(link(path, other));
        else if (!strcmp(operation, "rename")) answer(rename(path, other));
        else if (!strcmp(operation, "unlink")) answer(unlink(path));
        else if (!strcmp(operation, "mkdir")) answer(mkdir(path, 0755));
        else if (!strcmp(operation, "utime")) answer(utimensat(AT_FDCWD, path, NULL, 0));
        else if (!strcmp(operation, "hoard")) hoard(path);
        else if (!strcmp(operation, "descriptors")) descriptors();
        else if (!strcmp(operation, "environ"))
            for (char **line = environ; *line; line++) printf("%s\n", *line);
        else puts("unknown");
        fflush(stdout);
    }
    return 0;
}
