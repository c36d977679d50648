/*
 * For the fuzzer: what the privileged helper understands of a program that a client asks for. Reads inputs, each after its length
 * (four bytes, the lowest first): a byte (1: in the host's namespace), then what the client wrote. Prints for each "malformed",
 * "no" with the refusal, or "yes" with the arguments and the input as the helper has written them again, in hexadecimal digits.
 * Each input is in a block of memory of exactly its size, so that a build with AddressSanitizer ends at a look past it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helper/rule-programs.h"

static void print_bytes(const char *bytes, size_t length) {
  putchar(' ');
  for (size_t at = 0; at < length; at++) printf("%02x", (unsigned char)bytes[at]);
}

static void say(char *payload, size_t length, bool is_host) {
  rule_program what;
  if (!read_program(payload, length, &what)) {
    puts("malformed");
    return;
  }
  const char *refusal = program_refusal(&what, is_host);
  if (refusal != NULL) {
    printf("no %s\n", refusal);
    return;
  }
  printf("yes %zu", what.argc);
  for (size_t at = 0; at < what.argc; at++) print_bytes(what.argv[at], strlen(what.argv[at]));
  print_bytes(what.input, what.input_length);
  putchar('\n');
}

int main(void) {
  unsigned char head[4];
  while (fread(head, 1, sizeof head, stdin) == sizeof head) {
    const size_t length = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
    const int is_host = length == 0 ? EOF : getchar();
    if (is_host == EOF) return 2;
    /* The helper takes no empty payload. */
    char *payload = malloc(length == 1 ? 1 : length - 1);
    if (payload == NULL || fread(payload, 1, length - 1, stdin) != length - 1) return 2;
    if (length == 1) puts("malformed");
    else say(payload, length - 1, is_host == 1);
    fflush(stdout);
    free(payload);
  }
  return 0;
}
