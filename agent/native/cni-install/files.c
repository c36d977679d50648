#define _GNU_SOURCE
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static bool read_all(int fd, size_t most, file_content *out) {
  struct stat found;
  if (fstat(fd, &found) != 0) return false;
  errno = !S_ISREG(found.st_mode) ? EINVAL : found.st_size > (off_t)most ? EFBIG : 0;
  if (errno != 0) return false;
  const size_t size = (size_t)found.st_size;
  size_t length = 0;
  char *bytes = malloc(size + 1);
  if (bytes == NULL) return false;
  for (ssize_t more; length < size && (more = read(fd, bytes + length, size - length)) > 0;) length += (size_t)more;
  bytes[length] = '\0';
  /* It was cut meanwhile: the next look finds it whole. */
  if (length < size) {
    free(bytes);
    errno = EAGAIN;
    return false;
  }
  *out = (file_content){bytes, length, found.st_mode & 0777};
  return true;
}

bool read_file(int directory, const char *name, size_t most, file_content *out) {
  const int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return false;
  const bool is_read = read_all(fd, most, out);
  const int number = errno;
  close(fd);
  errno = number;
  return is_read;
}

static bool write_all(int fd, const char *bytes, size_t length, mode_t mode) {
  while (length > 0) {
    const ssize_t more = write(fd, bytes, length);
    if (more < 0 && errno == EINTR) continue;
    if (more < 0) return false;
    bytes += more;
    length -= (size_t)more;
  }
  return fchmod(fd, mode) == 0 && fsync(fd) == 0;
}

bool sync_directory(int directory) { return fsync(directory) == 0; }

bool replace_file(int directory, const char *name, const char *bytes, size_t length, mode_t mode) {
  char temporary[300];
  unsigned number_of_file = 0;
  /* Not a process id: the installers of two agents, each in a container of its own, may have the same one. */
  if (getrandom(&number_of_file, sizeof number_of_file, 0) != (ssize_t)sizeof number_of_file) return false;
  /* A runtime reads no name that begins with a dot, or has another ending. */
  snprintf(temporary, sizeof temporary, ".%s.%08x", name, number_of_file);
  const int fd = openat(directory, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return false;
  bool is_done = write_all(fd, bytes, length, mode);
  const int number = errno;
  close(fd);
  errno = number;
  is_done = is_done && renameat(directory, temporary, directory, name) == 0;
  if (!is_done) {
    const int why = errno;
    unlinkat(directory, temporary, 0);
    errno = why;
  }
  return is_done && sync_directory(directory);
}
