/*
 * The list is text: "culvert-enrolled 2", then lines "namespace NAME", "inside UID" and "outside UID", and "end COUNT". A list
 * without its end, with another count, or with another line was cut or written by something else: then nothing is known.
 */
#define _GNU_SOURCE
#include "enrolled.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "json.h"

#define MAX_LIST (1024 * 1024)
#define HEAD "culvert-enrolled 2\n"

#define SMALL "abcdefghijklmnopqrstuvwxyz0123456789-"

typedef struct {
  const char *word, *characters;
  size_t most;
} line_kind;

/* As Kubernetes names namespaces (RFC 1123). */
static const line_kind of_namespace = {"namespace ", SMALL, 63};
static const line_kind of_inside = {"inside ", SMALL "ABCDEFGHIJKLMNOPQRSTUVWXYZ._", 128};
static const line_kind of_outside = {"outside ", SMALL "ABCDEFGHIJKLMNOPQRSTUVWXYZ._", 128};

/* Whether a line is of this kind, with a name that it may have, which is in `name` then. */
static bool read_line(const char *line, size_t length, const line_kind *kind, json_span *name) {
  const size_t word = strlen(kind->word);
  if (length <= word || strncmp(line, kind->word, word) != 0) return false;
  *name = (json_span){line + word, length - word};
  return name->length <= kind->most && strspn(name->at, kind->characters) >= name->length;
}

static bool is_name(json_span name, const char *wanted) {
  return strlen(wanted) == name.length && strncmp(name.at, wanted, name.length) == 0;
}

/* The number after "end ", at the very end of the text; -1: there is no such number. */
static long read_end(const char *line, const char *end) {
  char *after;
  if (strncmp(line, "end ", 4) != 0 || line[4] < '0' || line[4] > '9') return -1;
  const long count = strtol(line + 4, &after, 10);
  return after + 1 == end && *after == '\n' ? count : -1;
}

/* What is said of the pod itself counts more than what is said of its namespace. */
static enrolment find_in(const char *text, size_t length, const char *pod_namespace, const char *pod_uid) {
  const char *end = text + length, *line = text + strlen(HEAD);
  bool is_inside = false, is_outside = false, is_in_namespace = false;
  long count = 0;
  if (strncmp(text, HEAD, strlen(HEAD)) != 0 || strlen(text) != length) return ENROLMENT_UNKNOWN;
  for (; line < end; count++) {
    const size_t size = strcspn(line, "\n");
    json_span name;
    if (line[size] != '\n') return ENROLMENT_UNKNOWN;
    if (strncmp(line, "end ", 4) == 0) {
      if (read_end(line, end) != count) return ENROLMENT_UNKNOWN;
      return is_inside || (is_in_namespace && !is_outside) ? ENROLLED : NOT_ENROLLED;
    }
    if (read_line(line, size, &of_namespace, &name)) is_in_namespace |= is_name(name, pod_namespace);
    else if (read_line(line, size, &of_inside, &name)) is_inside |= is_name(name, pod_uid);
    else if (read_line(line, size, &of_outside, &name)) is_outside |= is_name(name, pod_uid);
    else return ENROLMENT_UNKNOWN;
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

enrolment find_enrolment(const char *file, const char *pod_namespace, const char *pod_uid) {
  static char text[MAX_LIST + 1];
  struct stat found;
  enrolment result = ENROLMENT_UNKNOWN;
  const int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return ENROLMENT_UNKNOWN;
  if (fstat(fd, &found) == 0 && S_ISREG(found.st_mode) && found.st_size <= MAX_LIST &&
      read_whole(fd, (size_t)found.st_size, text))
    result = find_in(text, (size_t)found.st_size, pod_namespace, pod_uid);
  close(fd);
  return result;
}
