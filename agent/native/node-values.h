/* How the parts of the addon read arguments, return values and throw. */
#ifndef CULVERT_NODE_VALUES_H
#define CULVERT_NODE_VALUES_H

#define NAPI_VERSION 8
#include <node_api.h>

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

#include "tcp-life.h"

static inline failure failed(const char *step) { return (failure){step, errno}; }
static const failure success = {NULL, 0};

static inline napi_value throw_failure(napi_env env, failure what) {
  napi_value message, error, number;
  napi_create_string_utf8(env, what.step, NAPI_AUTO_LENGTH, &message);
  napi_create_error(env, NULL, message, &error);
  napi_create_int32(env, what.number, &number);
  napi_set_named_property(env, error, "errno", number);
  napi_throw(env, error);
  return NULL;
}

static inline napi_value fd_result(napi_env env, int fd, failure what) {
  if (what.step != NULL) {
    if (fd >= 0) close(fd);
    return throw_failure(env, what);
  }
  napi_value result;
  napi_create_int32(env, fd, &result);
  return result;
}

/* Reads `count` arguments; returns false, with a pending exception, if there are fewer. */
static inline bool read_arguments(napi_env env, napi_callback_info info, size_t count, napi_value *out) {
  size_t given = count;
  if (napi_get_cb_info(env, info, &given, out, NULL, NULL) == napi_ok && given == count) return true;
  napi_throw_type_error(env, NULL, "culvert.node: wrong number of arguments");
  return false;
}

static inline bool read_int(napi_env env, napi_value value, int32_t *out) {
  if (napi_get_value_int32(env, value, out) == napi_ok) return true;
  napi_throw_type_error(env, NULL, "culvert.node: expected a number");
  return false;
}

static inline bool read_bool(napi_env env, napi_value value, bool *out) {
  if (napi_get_value_bool(env, value, out) == napi_ok) return true;
  napi_throw_type_error(env, NULL, "culvert.node: expected a boolean");
  return false;
}

/* An empty text is allowed. A text longer than any IP literal is truncated and then fails to parse. */
static inline bool read_text(napi_env env, napi_value value, char *out, size_t size) {
  size_t length;
  if (napi_get_value_string_utf8(env, value, out, size, &length) == napi_ok) return true;
  napi_throw_type_error(env, NULL, "culvert.node: expected a string");
  return false;
}

/* A function of the addon, by its name in JavaScript, and all those of an array. */
#define FUNCTION(name, call) {name, NULL, call, NULL, NULL, NULL, napi_enumerable, NULL}
#define ADD_FUNCTIONS(env, exports, functions) \
  napi_define_properties(env, exports, sizeof(functions) / sizeof *(functions), functions)

/*
 * Each adds the functions of one file to the addon: add_sockets those of sockets.c, and so on. What tcp-life.c and
 * sock-diag.c do without Node is bound in tcp-life-calls.c and sock-diag-calls.c. add_io: the folder io, see io/io.h.
 */
void add_sockets(napi_env env, napi_value exports);
void add_dials(napi_env env, napi_value exports);
void add_client_ports(napi_env env, napi_value exports);
void add_changes(napi_env env, napi_value exports);
void add_tcp_life(napi_env env, napi_value exports);
void add_passed_sockets(napi_env env, napi_value exports);
void add_sock_diag(napi_env env, napi_value exports);
void add_helper(napi_env env, napi_value exports);
void add_confinement(napi_env env, napi_value exports);
void add_io(napi_env env, napi_value exports);

#endif
