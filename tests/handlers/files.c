/* Does with files what the query says: each command prints one line. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void show(const char *path) {
    char buffer[256];
    FILE *file = fopen(path, "r");
    if (!file) {
        printf("%s: %s\n", path, strerror(errno));
        return;
    }
    size_t length = fread(buffer, 1, sizeof buffer - 1, file);
    buffer[length] = 0;
    printf("%s: %s\n", path, buffer);
    fclose(file);
}

int main(void) {
    struct stat info;
    puts("Content-Type: text/plain\n");
    FILE *file = fopen("/data/new.txt", "w");
    if (file) {
        fprintf(file, "written by the guest");
        fclose(file);
    }
    show("/data/new.txt");
    show("/data/given.txt");
    show("/data/../outside.txt");
    show("/data/link.txt");
    show("/etc/passwd");
    if (stat("/data/given.txt", &info) == 0) printf("size: %lld\n", (long long)info.st_size);
    int fd = open("/data/given.txt", O_RDONLY);
    lseek(fd, 6, SEEK_SET);
    char rest[16] = {0};
    read(fd, rest, sizeof rest - 1);
    printf("after seek: %s\n", rest);
    close(fd);
    return 0;
}
