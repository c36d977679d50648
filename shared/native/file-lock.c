/*
 * Locks of the kernel (F_OFD_SETLK, fcntl(2)), which Node has no API for. A lock belongs to the open file: it is seen from every
 * container of the machine, and from other machines where the file system carries it there (NFS does), and it goes with the
 * process, however that ends. In contrast to flock(2), one can ask for such a lock without taking it.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#define NAPI_VERSION 8
#include <node_api.h>

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* One byte far behind the text: where locks are mandatory (SMB), what is locked cannot be read by others. */
static struct flock locked_byte(void) {
  return (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0x40000000, .l_len = 1};
}

static napi_value failure(napi_env env, int number) {
  napi_value message, error, code;
  napi_create_string_utf8(env, "fcntl", NAPI_AUTO_LENGTH, &message);
  napi_create_error(env, NULL, message, &error);
  napi_create_int32(env, number, &code);
  napi_set_named_property(env, error, "errno", code);
  napi_throw(env, error);
  return NULL;
}

static int descriptor(napi_env env, napi_callback_info info) {
  size_t given = 1;
  napi_value argument;
  int32_t fd;
  if (napi_get_cb_info(env, info, &given, &argument, NULL, NULL) == napi_ok && given == 1 &&
      napi_get_value_int32(env, argument, &fd) == napi_ok && fd >= 0)
    return fd;
  napi_throw_type_error(env, NULL, "file-lock.node: expected a descriptor");
  return -1;
}

static napi_value boolean(napi_env env, int value) {
  napi_value result;
  napi_get_boolean(env, value, &result);
  return result;
}

/* lockFile(fd) -> whether it is locked now; false: another has it. Throws an Error with `errno`. */
static napi_value lock_file(napi_env env, napi_callback_info info) {
  int fd = descriptor(env, info), outcome;
  if (fd < 0) return NULL;
  struct flock lock = locked_byte();
  do outcome = fcntl(fd, F_OFD_SETLK, &lock);
  while (outcome < 0 && errno == EINTR);
  /* EACCES is what servers of SMB say. */
  if (outcome < 0 && errno != EAGAIN && errno != EACCES) return failure(env, errno);
  return boolean(env, outcome == 0);
}

/* isLocked(fd) -> whether another open file has the lock. Takes none. Throws an Error with `errno`. */
static napi_value is_locked(napi_env env, napi_callback_info info) {
  int fd = descriptor(env, info), outcome;
  if (fd < 0) return NULL;
  struct flock lock = locked_byte();
  do outcome = fcntl(fd, F_OFD_GETLK, &lock);
  while (outcome < 0 && errno == EINTR);
  return outcome < 0 ? failure(env, errno) : boolean(env, lock.l_type != F_UNLCK);
}

NAPI_MODULE_INIT() {
  const napi_property_descriptor functions[] = {
      {"lockFile", NULL, lock_file, NULL, NULL, NULL, napi_enumerable, NULL},
      {"isLocked", NULL, is_locked, NULL, NULL, NULL, napi_enumerable, NULL},
  };
  napi_define_properties(env, exports, 2, functions);
  return exports;
}
