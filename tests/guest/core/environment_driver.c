/* Drives environment.c with random requests. Under AddressSanitizer each byte beyond a text, and
 * beyond the buffer, is an error, for all of them are allocated with exactly their size.
 *
 *     cc -std=c11 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -I CORE \
 *        environment_driver.c CORE/environment.c -o drive
 *     ./drive FIRST_SEED COUNT
 *
 * It prints how many requests were built; the others are left to Python.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "environment.h"

static unsigned choose(unsigned choices) { return (unsigned)rand() % choices; }

static char *allocated[2 * MAX_HEADERS + 16];
static size_t allocations;

static text_t exact(const char *bytes, size_t size) {
  char *copy = malloc(size);
  if (size) memcpy(copy, bytes, size);
  allocated[allocations++] = copy;
  return (text_t){copy, size};
}

static text_t random_text(size_t most) {
  static char bytes[MAX_ENVIRONMENT + 8];
  size_t size = choose((unsigned)most + 1);
  for (size_t i = 0; i < size; i++) bytes[i] = (char)('!' + choose(94));
  if (size && choose(200) == 0) bytes[choose((unsigned)size)] = (char)choose(256);
  return exact(bytes, size);
}

static text_t random_name(void) {
  static const char *const names[] = {"Host",  "content-type",  "Authorization", "Proxy",
                                      "PROXY", "Connection",    "X-A",           "x_a",
                                      "",      "Content-Typee", "Cookie",        "Via"};
  const char *name = names[choose(sizeof names / sizeof *names)];
  return choose(3) ? random_text(12) : exact(name, strlen(name));
}

static text_t one_of(const char *first, const char *second, const char *other) {
  const char *text = choose(16) == 0 ? other : choose(2) ? first : second;
  return exact(text, strlen(text));
}

int main(int count, char **arguments) {
  if (count != 3) return 2;
  unsigned first = (unsigned)atoi(arguments[1]), requests = (unsigned)atoi(arguments[2]), built = 0;
  for (unsigned seed = first; seed < first + requests; seed++) {
    srand(seed);
    size_t most = choose(50) ? 20 : MAX_ENVIRONMENT + 8;
    request_head_t *head = calloc(1, sizeof *head);
    head->method = random_text(8), head->path = random_text(most);
    head->has_query = choose(2), head->query = random_text(head->has_query ? most : 0);
    head->protocol = random_text(8), head->scheme = one_of("http", "https", "");
    head->server_name = random_text(20), head->server_port = one_of("80", "443", "");
    head->remote_address = random_text(20), head->remote_port = random_text(5);
    head->server_address = random_text(20), head->content_length = choose(2) ? 0 : -1ull;
    head->header_count = choose(choose(4) ? 6 : MAX_HEADERS + 1);
    for (size_t i = 0; i < head->header_count; i++)
      head->headers[i] = (header_t){random_name(), random_text(choose(4) ? 20 : most)};
    text_t fixed = random_text(30), path_info = random_text(choose(3) ? 0 : most);
    char *buffer = malloc(MAX_ENVIRONMENT);
    size_t size = environment_write(buffer, fixed, head, path_info, choose(2));
    if (size > MAX_ENVIRONMENT || (size && buffer[size - 1])) abort();
    built += size > 0;
    free(buffer), free(head);
    while (allocations) free(allocated[--allocations]);
  }
  printf("%u of %u requests\n", built, requests);
}
