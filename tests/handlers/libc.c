/* Exercises the C library on a volume, and prints what each call has given.
 *
 * The same program runs under wasmtime's own WASI and under the gateway, and prints the same text:
 * nothing of it depends on the machine, the time or chance. A check that fails prints FAILED.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition) \
    do { \
        errno = 0; \
        int held = !!(condition); \
        printf("%s: %s (%s)\n", held ? "ok" : "FAILED", #condition, strerror(errno)); \
    } while (0)
/* A call that has to fail, with this error. */
#define FAILS(error, call) \
    do { \
        errno = 0; \
        long long result = (long long)(call); \
        printf("%s: %s is %lld (%s)\n", result == -1 && errno == error ? "ok" : "FAILED", #call, \
               result, strerror(errno)); \
    } while (0)

static void standard_io(void) {
    char text[32] = "";
    puts("-- stdio");
    FILE *file = fopen("/data/stdio.txt", "w+");
    CHECK(file != NULL);
    CHECK(fprintf(file, "%d %s\n", 42, "lines") == 9);
    CHECK(fputs("second\n", file) >= 0);
    CHECK(fseek(file, 3, SEEK_SET) == 0);
    CHECK(fgets(text, sizeof text, file) == text);
    CHECK(!strcmp(text, "lines\n"));
    CHECK(ftell(file) == 9);
    CHECK(fseek(file, 0, SEEK_END) == 0 && ftell(file) == 16);
    CHECK(fclose(file) == 0);
    file = fopen("/data/stdio.txt", "a");
    CHECK(fputs("third\n", file) >= 0 && fclose(file) == 0);
    file = fopen("/data/stdio.txt", "r");
    int lines = 0;
    while (fgets(text, sizeof text, file)) lines++;
    CHECK(lines == 3 && feof(file) && !ferror(file));
    CHECK(fputs("x", file) == EOF);
    CHECK(fclose(file) == 0);
    CHECK(fopen("/data/absent.txt", "r") == NULL);
    CHECK(fopen("/data/stdio.txt", "wx") == NULL);
    CHECK(remove("/data/stdio.txt") == 0);
}

static void descriptors(void) {
    char text[16] = "";
    struct stat info;
    struct iovec one[1] = {{"abcde", 5}}; /* of several, wasmtime writes the first one only */
    puts("-- descriptors");
    int fd = open("/data/fd.bin", O_RDWR | O_CREAT | O_EXCL, 0644);
    CHECK(fd > 2);
    FAILS(EEXIST, open("/data/fd.bin", O_RDWR | O_CREAT | O_EXCL, 0644));
    CHECK(write(fd, "0123456789", 10) == 10);
    CHECK(lseek(fd, 0, SEEK_CUR) == 10);
    CHECK(pread(fd, text, 4, 3) == 4 && !strcmp(text, "3456"));
    CHECK(pwrite(fd, "XY", 2, 8) == 2);
    CHECK(lseek(fd, 0, SEEK_CUR) == 10);
    CHECK(lseek(fd, -3, SEEK_END) == 7);
    CHECK(read(fd, text, 15) == 3 && !memcmp(text, "7XY", 3));
    CHECK(read(fd, text, 15) == 0);
    CHECK(lseek(fd, 100, SEEK_SET) == 100);
    CHECK(write(fd, "z", 1) == 1);
    CHECK(fstat(fd, &info) == 0 && info.st_size == 101 && S_ISREG(info.st_mode));
    CHECK(ftruncate(fd, 5) == 0);
    CHECK(fstat(fd, &info) == 0 && info.st_size == 5);
    CHECK(ftruncate(fd, 50) == 0);
    CHECK(pread(fd, text, 2, 48) == 2 && !text[0] && !text[1]);
    FAILS(EINVAL, ftruncate(fd, -1));
    FAILS(EINVAL, lseek(fd, -1, SEEK_SET));
    CHECK(lseek(fd, 1, SEEK_SET) == 1 && writev(fd, one, 1) == 5);
    CHECK(pread(fd, text, 7, 0) == 7 && !memcmp(text, "0abcde", 6));
    CHECK(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL) == 0);
    CHECK(fsync(fd) == 0);
    CHECK(fdatasync(fd) == 0);
    CHECK((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR);
    CHECK(fcntl(fd, F_SETFL, O_APPEND) == 0);
    CHECK((fcntl(fd, F_GETFL) & O_APPEND) == O_APPEND);
    CHECK(lseek(fd, 0, SEEK_SET) == 0 && write(fd, "end", 3) == 3);
    CHECK(fstat(fd, &info) == 0 && info.st_size == 53);
    CHECK(isatty(fd) == 0);
    CHECK(close(fd) == 0);
    FAILS(EBADF, close(fd));
    FAILS(EBADF, read(fd, text, 1));
    FAILS(EBADF, fstat(fd, &info));
    fd = open("/data/fd.bin", O_RDONLY);
    FAILS(EBADF, write(fd, "x", 1));
    FAILS(EINVAL, ftruncate(fd, 0));
    CHECK(close(fd) == 0);
    fd = open("/data/fd.bin", O_WRONLY | O_TRUNC);
    FAILS(EBADF, read(fd, text, 1));
    CHECK(fstat(fd, &info) == 0 && info.st_size == 0);
    CHECK(close(fd) == 0);
    FAILS(ENOENT, open("/data/absent", O_RDONLY));
    FAILS(ENOTDIR, open("/data/fd.bin/x", O_RDONLY));
    FAILS(ENOTDIR, open("/data/fd.bin", O_RDONLY | O_DIRECTORY));
    CHECK(unlink("/data/fd.bin") == 0);
    FAILS(ENOENT, unlink("/data/fd.bin"));
}

/* Which number a file gets is for the host to say: POSIX promises the lowest, WASI does not. */
static void numbers(void) {
    puts("-- numbers of descriptors");
    int first = open("/data/one", O_RDWR | O_CREAT, 0644);
    int second = open("/data/two", O_RDWR | O_CREAT, 0644);
    printf("opened: %d %d\n", first, second);
    CHECK(close(first) == 0);
    int third = open("/data/two", O_RDONLY);
    printf("after one was closed: %d\n", third);
    CHECK(close(third) == 0 && close(second) == 0);
    CHECK(unlink("/data/one") == 0 && unlink("/data/two") == 0);
}

static void directories(void) {
    struct stat info;
    struct dirent *entry;
    int seen = 0, files = 0, folders = 0;
    puts("-- directories");
    CHECK(mkdir("/data/dir", 0755) == 0);
    FAILS(EEXIST, mkdir("/data/dir", 0755));
    CHECK(mkdir("/data/dir/sub", 0755) == 0);
    FAILS(ENOENT, mkdir("/data/absent/sub", 0755));
    for (int i = 0; i < 300; i++) {
        char name[64];
        snprintf(name, sizeof name, "/data/dir/a-file-with-a-long-name-%03d", i);
        close(open(name, O_WRONLY | O_CREAT, 0644));
    }
    DIR *folder = opendir("/data/dir");
    CHECK(folder != NULL);
    long middle = 0;
    char next[64] = "";
    while ((entry = readdir(folder))) {
        if (entry->d_name[0] == '.') continue;
        files += entry->d_type == DT_REG;
        folders += entry->d_type == DT_DIR;
        if (++seen == 100) middle = telldir(folder);
        if (seen == 101) strcpy(next, entry->d_name);
    }
    CHECK(seen == 301 && files == 300 && folders == 1);
    seekdir(folder, middle);
    CHECK((entry = readdir(folder)) && !strcmp(entry->d_name, next));
    rewinddir(folder);
    for (seen = 0; readdir(folder); seen++) {}
    CHECK(seen == 303);
    CHECK(closedir(folder) == 0);
    CHECK(stat("/data/dir", &info) == 0 && S_ISDIR(info.st_mode));
    FAILS(ENOTEMPTY, rmdir("/data/dir"));
    FAILS(EISDIR, unlink("/data/dir/sub"));
    FAILS(ENOTDIR, rmdir("/data/dir/a-file-with-a-long-name-000"));
    CHECK(opendir("/data/dir/a-file-with-a-long-name-000") == NULL);
    CHECK(rmdir("/data/dir/sub") == 0);
    for (int i = 0; i < 300; i++) {
        char name[64];
        snprintf(name, sizeof name, "/data/dir/a-file-with-a-long-name-%03d", i);
        unlink(name);
    }
    CHECK(rmdir("/data/dir") == 0);
    CHECK(chdir("/data") == 0);
    CHECK(access("absent", F_OK) == -1);
}

static void names(void) {
    struct stat info, other;
    char text[32] = "";
    puts("-- names");
    close(open("/data/name", O_WRONLY | O_CREAT, 0644));
    CHECK(rename("/data/name", "/data/renamed") == 0);
    FAILS(ENOENT, rename("/data/name", "/data/other"));
    CHECK(mkdir("/data/folder", 0755) == 0);
    FAILS(EISDIR, rename("/data/renamed", "/data/folder"));
    CHECK(rename("/data/renamed", "/data/folder/name") == 0);
    CHECK(rename("/data/folder", "/data/moved") == 0);
    CHECK(stat("/data/moved/name", &info) == 0);
    CHECK(link("/data/moved/name", "/data/hard") == 0);
    CHECK(stat("/data/hard", &other) == 0 && other.st_ino == info.st_ino && other.st_nlink == 2);
    FAILS(EEXIST, link("/data/moved/name", "/data/hard"));
    CHECK(symlink("moved/name", "/data/soft") == 0);
    CHECK(readlink("/data/soft", text, sizeof text) == 10 && !strcmp(text, "moved/name"));
    CHECK(readlink("/data/soft", text, 3) == 3);
    FAILS(EINVAL, readlink("/data/hard", text, sizeof text));
    CHECK(lstat("/data/soft", &other) == 0 && S_ISLNK(other.st_mode));
    CHECK(stat("/data/soft", &other) == 0 && other.st_ino == info.st_ino);
    FAILS(ELOOP, open("/data/soft", O_RDONLY | O_NOFOLLOW));
    CHECK(symlink("circle", "/data/circle") == 0);
    FAILS(ELOOP, open("/data/circle", O_RDONLY));
    CHECK(symlink("../outside", "/data/outside") == 0);
    FAILS(EPERM, open("/data/outside", O_RDONLY));
    FAILS(EPERM, open("/data/../../etc/passwd", O_RDONLY));
    CHECK(unlink("/data/circle") == 0 && unlink("/data/outside") == 0);
    CHECK(unlink("/data/soft") == 0 && unlink("/data/hard") == 0);
    CHECK(unlink("/data/moved/name") == 0 && rmdir("/data/moved") == 0);
    char *longest = malloc(5001);
    memset(longest, 'n', 5000), longest[5000] = 0, memcpy(longest, "/data/", 6);
    FAILS(ENAMETOOLONG, open(longest, O_RDONLY));
    longest[262] = 0;
    FAILS(ENAMETOOLONG, open(longest, O_WRONLY | O_CREAT, 0644));
    longest[261] = 0;
    CHECK(close(open(longest, O_WRONLY | O_CREAT, 0644)) == 0 && unlink(longest) == 0);
}

static void times(void) {
    struct stat info;
    struct timespec wanted[2] = {{1000000000, 500}, {1500000000, 123456789}};
    struct timespec omitted[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
    puts("-- times");
    int fd = open("/data/times", O_RDWR | O_CREAT, 0644);
    CHECK(futimens(fd, wanted) == 0);
    CHECK(fstat(fd, &info) == 0 && info.st_atim.tv_sec == 1000000000 && info.st_atim.tv_nsec == 500);
    CHECK(info.st_mtim.tv_sec == 1500000000 && info.st_mtim.tv_nsec == 123456789);
    CHECK(utimensat(AT_FDCWD, "/data/times", omitted, 0) == 0);
    CHECK(fstat(fd, &info) == 0 && info.st_atim.tv_sec == 1000000000);
    CHECK(info.st_mtim.tv_sec > 1700000000);
    FAILS(ENOENT, utimensat(AT_FDCWD, "/data/absent", wanted, 0));
    CHECK(close(fd) == 0 && unlink("/data/times") == 0);
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static void clocks_and_polls(void) {
    struct timespec resolution, pause = {0, 20000000}, past = {0, 0};
    struct pollfd wanted;
    puts("-- clocks and polls");
    CHECK(clock_getres(CLOCK_MONOTONIC, &resolution) == 0 && resolution.tv_nsec > 0);
    CHECK(clock_getres(CLOCK_REALTIME, &resolution) == 0 && resolution.tv_nsec > 0);
    CHECK(time(NULL) > 1700000000);
    double began = seconds();
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL) == 0);
    CHECK(seconds() - began >= 0.02);
    CHECK(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &past, NULL) == 0);
    began = seconds();
    CHECK(usleep(20000) == 0 && seconds() - began >= 0.02);
    began = seconds();
    CHECK(poll(NULL, 0, 20) == 0 && seconds() - began >= 0.02);
    int fd = open("/data/poll", O_RDWR | O_CREAT, 0644);
    write(fd, "abc", 3), lseek(fd, 0, SEEK_SET);
    wanted = (struct pollfd){.fd = fd, .events = POLLIN};
    CHECK(poll(&wanted, 1, 1000) == 1 && wanted.revents == POLLIN);
    wanted = (struct pollfd){.fd = fd, .events = POLLOUT};
    CHECK(poll(&wanted, 1, 1000) == 1 && wanted.revents == POLLOUT);
    wanted = (struct pollfd){.fd = 1, .events = POLLOUT};
    CHECK(poll(&wanted, 1, 1000) == 1 && wanted.revents == POLLOUT);
    fd_set readable;
    struct timeval limit = {1, 0};
    FD_ZERO(&readable);
    FD_SET(fd, &readable);
    CHECK(select(fd + 1, &readable, NULL, NULL, &limit) == 1 && FD_ISSET(fd, &readable));
    CHECK(close(fd) == 0 && unlink("/data/poll") == 0);
}

static void environment(int count, char **arguments) {
    puts("-- arguments and environment");
    for (int i = 1; i < count; i++) printf("argument %d: '%s'\n", i, arguments[i]);
    const char *names[] = {"EMPTY", "EQUALS", "SPACES", "ABSENT"};
    for (int i = 0; i < 4; i++) {
        const char *value = getenv(names[i]);
        printf("%s: %s%s%s\n", names[i], value ? "'" : "", value ? value : "none", value ? "'" : "");
    }
}

static void chance(void) {
    size_t size = 10000000;
    unsigned char *bytes = malloc(size);
    size_t counts[256] = {0}, least = size, most = 0;
    puts("-- random bytes");
    int failures = 0;
    for (size_t at = 0; at < size; at += 256) { /* getentropy gives at most 256 bytes a call */
        size_t length = size - at < 256 ? size - at : 256;
        failures += getentropy(bytes + at, length) != 0;
    }
    CHECK(failures == 0);
    for (size_t at = 0; at < size; at++) counts[bytes[at]]++;
    for (int i = 0; i < 256; i++) {
        if (counts[i] < least) least = counts[i];
        if (counts[i] > most) most = counts[i];
    }
    /* 39,062 of each are expected, with a standard deviation of 197. */
    CHECK(least > 36000 && most < 42000);
    FAILS(EIO, getentropy(bytes, 257));
    free(bytes);
}

static void closed_streams(void) {
    puts("-- closed streams");
    CHECK(close(0) == 0);
    FAILS(EBADF, close(0));
    printf("opened: %d\n", open("/data/zero", O_RDWR | O_CREAT, 0644));
    CHECK(unlink("/data/zero") == 0);
}

int main(int count, char **arguments) {
    printf("Content-Type: text/plain\n\n");
    standard_io();
    descriptors();
    numbers();
    directories();
    names();
    times();
    clocks_and_polls();
    environment(count, arguments);
    chance();
    closed_streams();
    return 0;
}
