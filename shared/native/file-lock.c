/*
 * flock(2), which Node has no API for. The kernel has such a lock for as long as the descriptor is open: it is seen from every
 * container of the machine, and from other machines where the file system carries it there (NFS does), and it goes with the
 * process, however that ends.
 */
#define NAPI_VERSION 8
#include <node_api.h>

#include <errno.h>
#include <sys/file.h>

/* lockFile(fd) -> whether it is locked now; false: another has it. Throws an Error with `errno`. */
static napi_value lock_file(napi_env env, napi_callback_info info) {
  size_t given = 1;
  napi_value argument, result;
  int32_t fd;
  if (napi_get_cb_info(env, info, &given, &argument, NULL, NULL) != napi_ok || given != 1 ||
      napi_get_value_int32(env, argument, &fd) != napi_ok) {
    napi_throw_type_error(env, NULL, "file-lock.node: expected a descriptor");
    return NULL;
  }
  int outcome;
  do outcome = flock(fd, LOCK_EX | LOCK_NB);
  while (outcome < 0 && errno == EINTR);
  int number = errno;
  if (outcome == 0 || number == EWOULDBLOCK) {
    napi_get_boolean(env, outcome == 0, &result);
    return result;
  }
  napi_value message, error, code;
  napi_create_string_utf8(env, "flock", NAPI_AUTO_LENGTH, &message);
  napi_create_error(env, NULL, message, &error);
  napi_create_int32(env, number, &code);
  napi_set_named_property(env, error, "errno", code);
  napi_throw(env, error);
  return NULL;
}

NAPI_MODULE_INIT() {
  const napi_property_descriptor functions[] = {
      {"lockFile", NULL, lock_file, NULL, NULL, NULL, napi_enumerable, NULL},
  };
  napi_define_properties(env, exports, 1, functions);
  return exports;
}
