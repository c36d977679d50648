/*
 * For tests of agent/native/cni/json.c. Reads texts, each after its length (four bytes, the lowest first), and prints for each
 * "no", or "yes" with what the reader finds. Each text is in a block of memory of exactly its size, so that a build with
 * AddressSanitizer ends at a look past it.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

/* As hexadecimal digits: any text is one word then. */
static void print_bytes(const char *bytes, size_t length) {
  putchar(' ');
  putchar('=');
  for (size_t at = 0; at < length; at++) printf("%02x", (unsigned char)bytes[at]);
}

static void print_number(json_span value) {
  unsigned long number;
  if (read_json_number(value, 1000000, &number)) printf(" %lu", number);
  else printf(" none");
}

static void print_text(json_span value) {
  char text[16];
  if (read_json_text(value, text, sizeof text)) print_bytes(text, strlen(text));
  else printf(" none");
}

int main(void) {
  unsigned char size[4];
  while (fread(size, 1, sizeof size, stdin) == sizeof size) {
    const size_t length = size[0] | (size_t)size[1] << 8 | (size_t)size[2] << 16 | (size_t)size[3] << 24;
    char *text = malloc(length == 0 ? 1 : length);
    if (text == NULL || fread(text, 1, length, stdin) != length) return 2;
    const json_span whole = {text, length};
    json_span value;
    if (!is_json(whole)) puts("no");
    else {
      const json_search found = find_member(whole, "a", &value);
      printf("yes %s", found == JSON_FOUND ? "found" : found == JSON_ABSENT ? "absent" : "twice");
      if (found == JSON_FOUND) {
        print_bytes(value.at, value.length);
        print_text(value);
        print_number(value);
      }
      putchar('\n');
    }
    free(text);
  }
  return 0;
}
