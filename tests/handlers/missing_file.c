/* Opens /data/file. Without it: a message and status 1, status 1 alone, or a response. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
  const char *query = getenv("QUERY_STRING");
  FILE *file = fopen("/data/file", "r");
  if (file) {
    printf("Content-Type: text/plain\n\nfound");
    return 0;
  }
  if (!strcmp(query, "message")) perror("/data/file");
  if (strcmp(query, "response")) return 1;
  perror("/data/file");
  printf("Status: 500\nContent-Type: text/plain\n\nno file");
  return 0;
}
