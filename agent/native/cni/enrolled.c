/*
 * The list is text: "culvert-enrolled 1", one namespace a line, and "end COUNT". A list without its end, with another count,
 * or with a line that is no name was cut or written by something else: then nothing is known.
 */
#define _GNU_SOURCE
#include "enrolled.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_LIST (1024 * 1024)
#define MAX_NAME 63
#define HEAD "culvert-enrolled 1\n"

/* A name as Kubernetes has it (RFC 1123). */
static bool is_name(const char *line, size_t length) {
  return length > 0 && length <= MAX_NAME && strspn(line, "abcdefghijklmnopqrstuvwxyz0123456789-") >= length;
}

/* The number after "end ", at the very end of the text; -1: there is no such number. */
static long read_end(const char *line, const char *end) {
  char *after;
  if (strncmp(line, "end ", 4) != 0 || line[4] < '0' || line[4] > '9') return -1;
  const long count = strtol(line + 4, &after, 10);
  return after + 1 == end && *after == '\n' ? count : -1;
}

static enrolment find_in(const char *text, size_t length, const char *wanted) {
  const char *end = text + length, *line = text + strlen(HEAD);
  enrolment found = NOT_ENROLLED;
  long count = 0;
  if (strncmp(text, HEAD, strlen(HEAD)) != 0 || strlen(text) != length) return ENROLMENT_UNKNOWN;
  for (; line < end; count++) {
    const size_t size = strcspn(line, "\n");
    if (line[size] != '\n') return ENROLMENT_UNKNOWN;
    if (strncmp(line, "end ", 4) == 0) return read_end(line, end) == count ? found : ENROLMENT_UNKNOWN;
    if (!is_name(line, size)) return ENROLMENT_UNKNOWN;
    if (strlen(wanted) == size && strncmp(line, wanted, size) == 0) found = ENROLLED;
    line += size + 1;
  }
  return ENROLMENT_UNKNOWN;
}

/* With a NUL after it. False: it cannot be read whole. */
static bool read_whole(int fd, size_t length, char *out) {
  size_t got = 0;
  for (ssize_t more; got < length && (more = read(fd, out + got, length - got)) > 0;) got += (size_t)more;
  out[got] = '\0';
  return got == length;
}

enrolment find_enrolment(const char *file, const char *pod_namespace) {
  static char text[MAX_LIST + 1];
  struct stat found;
  enrolment result = ENROLMENT_UNKNOWN;
  const int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return ENROLMENT_UNKNOWN;
  if (fstat(fd, &found) == 0 && S_ISREG(found.st_mode) && found.st_size <= MAX_LIST &&
      read_whole(fd, (size_t)found.st_size, text))
    result = find_in(text, (size_t)found.st_size, pod_namespace);
  close(fd);
  return result;
}
