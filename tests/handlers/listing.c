/* Lists /data: the names, one on each line, and their number at the end. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    int count = 0;
    struct dirent *entry;
    printf("Content-Type: text/plain\n\n");
    DIR *folder = opendir("/data");
    if (!folder) {
        printf("opendir: %s\n", strerror(errno));
        return 1;
    }
    errno = 0;
    while ((entry = readdir(folder))) {
        if (entry->d_name[0] == '.') continue;
        puts(entry->d_name);
        count++;
    }
    printf("%d files, %s\n", count, errno ? strerror(errno) : "no error");
    return closedir(folder);
}
