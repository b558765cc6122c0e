/* For LD_PRELOAD: a name whose addresses change from one question to the next.
 *
 * NAMES_FILE has a line for each question about *.test: the address to answer, or "slow" for an
 * answer after a minute. Questions are appended to NAMES_FILE.log.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int (*lookup)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **result) {
    lookup next = (lookup)dlsym(RTLD_NEXT, "getaddrinfo");
    const char *path = getenv("NAMES_FILE"), *suffix = node ? strstr(node, ".test") : NULL;
    if (!path || !suffix || suffix[5]) return next(node, service, hints, result);
    static int asked;
    char log[512], address[64] = "";
    snprintf(log, sizeof log, "%s.log", path);
    FILE *file = fopen(log, "a");
    fprintf(file, "%s\n", node);
    fclose(file);
    file = fopen(path, "r");
    for (int i = 0; i <= asked && fgets(address, sizeof address, file); i++) {
    }
    fclose(file);
    asked++;
    address[strcspn(address, "\n")] = 0;
    if (!strcmp(address, "slow")) sleep(60);
    return next(address, service, hints, result);
}
