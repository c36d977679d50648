#define _GNU_SOURCE
#include "namespace-paths.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../request.h"

static const char *const directories[] = {"/run/netns/", "/var/run/netns/", "/run/docker/netns/", "/var/run/docker/netns/"};

/* Without empty parts and "."; false where it leads upwards, or is too long. */
static bool make_plain(const char *path, char *out, size_t size) {
  size_t length = 0;
  if (path[0] != '/') return false;
  while (*path != '\0') {
    path += strspn(path, "/");
    const size_t part = strcspn(path, "/");
    if (part == 2 && strncmp(path, "..", 2) == 0) return false;
    if (part > 0 && !(part == 1 && path[0] == '.')) {
      if (length + part + 2 > size) return false;
      out[length++] = '/';
      memcpy(out + length, path, part);
      length += part;
    }
    path += part;
  }
  out[length] = '\0';
  return length > 0;
}

/* After "/proc/PID"; NULL: it begins otherwise. */
static const char *after_process(const char *path) {
  if (strncmp(path, "/proc/", 6) != 0) return NULL;
  const char *rest = path + 6;
  if (strncmp(rest, "self", 4) == 0) return rest + 4;
  while (isdigit((unsigned char)*rest)) rest++;
  return rest > path + 6 ? rest : NULL;
}

static bool is_name_below(const char *path, const char *directory) {
  const size_t skipped = strlen(directory);
  if (strncmp(path, directory, skipped) != 0) return false;
  return path[skipped] != '\0' && strchr(path + skipped, '/') == NULL;
}

/* The fifth word of a line of mountinfo (proc(5)) is the place; what comes after " - " begins with the file system. */
static bool is_mounted(const char *table, const char *place) {
  FILE *file = fopen(table, "re");
  if (file == NULL) return false;
  char *line = NULL;
  size_t size = 0;
  bool is_found = false;
  while (!is_found && getline(&line, &size, file) > 0) {
    char *at = line;
    for (int skipped = 0; skipped < 4 && at != NULL; skipped++) {
      at = strchr(at, ' ');
      if (at != NULL) at++;
    }
    const size_t length = strlen(place);
    is_found = at != NULL && strncmp(at, place, length) == 0 && at[length] == ' ' && strstr(at + length, " - nsfs ") != NULL;
  }
  free(line);
  fclose(file);
  return is_found;
}

bool is_namespace_path(const char *text) {
  char path[MAX_REQUEST_TEXT];
  if (!make_plain(text, path, sizeof path)) return false;
  for (size_t at = 0; at < sizeof directories / sizeof directories[0]; at++)
    if (is_name_below(path, directories[at])) return true;
  const char *rest = after_process(path);
  if (rest == NULL) return is_mounted("/proc/self/mountinfo", path);
  if (strcmp(rest, "/ns/net") == 0) return true;
  char table[64];
  const int length = snprintf(table, sizeof table, "%.*s/mountinfo", (int)(rest - path), path);
  return strncmp(rest, "/root/", 6) == 0 && length < (int)sizeof table && is_mounted(table, rest + 5);
}
