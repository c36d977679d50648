#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Bytes of a file, which the caller frees; one NUL more is behind them. */
typedef struct {
  char *bytes;
  size_t length;
  mode_t mode;
} file_content;

/*
 * All of these work on a name in an open directory, and say what failed in errno: EFBIG for more than a configuration or a
 * program has, EFTYPE's place is taken by EINVAL for what is no plain file.
 */
bool read_file(int directory, const char *name, size_t most, file_content *out);

/* Writes next to the file and renames over it, so that at each moment the whole old or the whole new file is there. */
bool replace_file(int directory, const char *name, const char *bytes, size_t length, mode_t mode);

/* Puts a name on disk that was made or taken away by other means. */
bool sync_directory(int directory);
