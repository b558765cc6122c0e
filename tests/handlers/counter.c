/* A counter in a volume: reads a number, waits a little, and writes the next one. It loses updates
   if two of it run at the same time, and says so if it sees another one running. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int main(void) {
    long number = 0;
    int lock = open("/data/running", O_CREAT | O_EXCL | O_WRONLY, 0600);
    FILE *file = fopen("/data/number", "r");
    if (file != NULL) {
        if (fscanf(file, "%ld", &number) != 1) number = -1;
        fclose(file);
    }
    struct timespec pause = {0, 5 * 1000 * 1000};
    nanosleep(&pause, NULL);
    file = fopen("/data/number", "w");
    if (file == NULL) {
        puts("Status: 500\n\nno volume");
        return 0;
    }
    fprintf(file, "%ld\n", number + 1);
    fclose(file);
    if (lock >= 0) {
        close(lock);
        unlink("/data/running");
    }
    printf("Status: 200\n\n%s %ld\n", lock < 0 ? "not alone" : "alone", number + 1);
    return 0;
}
