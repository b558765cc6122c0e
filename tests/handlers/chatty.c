/* Answers with what it got, says so on stderr, and ends as the query wants: exit=N or trap. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
    const char *query = getenv("QUERY_STRING"), *found;
    char body[65536];
    size_t length = fread(body, 1, sizeof body, stdin);
    fprintf(stderr, "asked for %s\n", getenv("PATH_INFO"));
    if (strstr(query, "trap")) __builtin_trap();
    if ((found = strstr(query, "status="))) printf("Status: %d\n", atoi(found + 7));
    printf("Content-Type: text/plain\nX-Twice: 1\nX-Twice: 2\n\n");
    printf("%s %s %s\n", getenv("REQUEST_METHOD"), getenv("PATH_INFO"), query);
    printf("%s\n", getenv("CONTENT_TYPE"));
    fwrite(body, 1, length, stdout);
    return (found = strstr(query, "exit=")) ? atoi(found + 5) : 0;
}
