/* tcp-life.c for JavaScript. */
#include "node-values.h"
#include "tcp-life.h"

#include <errno.h>
#include <sys/socket.h>

/* keepUrgentInline(fd) */
static napi_value keep_urgent_inline_call(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int32_t fd;
  if (!read_arguments(env, info, 1, args) || !read_int(env, args[0], &fd)) return NULL;
  failure result = keep_urgent_inline(fd);
  return result.step == NULL ? NULL : throw_failure(env, result);
}

/* setProbing(fd, idleSeconds, everySeconds, longestRetransmitMs | 0, mostProbes) */
static napi_value set_probing_call(napi_env env, napi_callback_info info) {
  napi_value args[5];
  int32_t fd;
  probing how;
  if (!read_arguments(env, info, 5, args) || !read_int(env, args[0], &fd) ||
      !read_int(env, args[1], &how.idle_seconds) || !read_int(env, args[2], &how.every_seconds) ||
      !read_int(env, args[3], &how.longest_retransmit_ms) || !read_int(env, args[4], &how.most_probes))
    return NULL;
  failure result = set_probing(fd, &how);
  return result.step == NULL ? NULL : throw_failure(env, result);
}

static napi_value number_array(napi_env env, const double *values, uint32_t count) {
  napi_value result, value;
  napi_create_array_with_length(env, count, &result);
  for (uint32_t index = 0; index < count; index++) {
    napi_create_double(env, values[index], &value);
    napi_set_element(env, result, index, value);
  }
  return result;
}

/* outlastSilence(fd, isOn) */
static napi_value outlast_silence_call(napi_env env, napi_callback_info info) {
  napi_value args[2];
  int32_t fd;
  bool is_on;
  if (!read_arguments(env, info, 2, args) || !read_int(env, args[0], &fd) || !read_bool(env, args[1], &is_on)) return NULL;
  failure result = outlast_silence(fd, is_on);
  return result.step == NULL ? NULL : throw_failure(env, result);
}

/* tcpCondition(fd) -> [state, unanswered probes, ms since sent, received and acknowledged, segments under way] */
static napi_value tcp_condition_call(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int32_t fd;
  if (!read_arguments(env, info, 1, args) || !read_int(env, args[0], &fd)) return NULL;
  tcp_condition found;
  failure result = read_condition(fd, &found);
  if (result.step != NULL) return throw_failure(env, result);
  const double values[] = {found.state,
                           found.unanswered_probes,
                           found.ms_since_sent,
                           found.ms_since_received,
                           found.ms_since_acknowledgement,
                           found.unacknowledged};
  return number_array(env, values, sizeof values / sizeof values[0]);
}

/* setDeaf(fd, isDeaf) */
static napi_value set_deaf_call(napi_env env, napi_callback_info info) {
  napi_value args[2];
  int32_t fd;
  bool is_deaf;
  if (!read_arguments(env, info, 2, args) || !read_int(env, args[0], &fd) || !read_bool(env, args[1], &is_deaf)) return NULL;
  failure result = set_deaf(fd, is_deaf);
  return result.step == NULL ? NULL : throw_failure(env, result);
}

/* takeSocketError(fd) -> errno | 0 */
static napi_value take_socket_error(napi_env env, napi_callback_info info) {
  napi_value args[1], result;
  int32_t fd;
  if (!read_arguments(env, info, 1, args) || !read_int(env, args[0], &fd)) return NULL;
  int number = 0;
  socklen_t length = sizeof number;
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &length) != 0) return throw_failure(env, failed("read SO_ERROR"));
  napi_create_int32(env, number, &result);
  return result;
}

/* hasUnread(fd) -> 1: bytes, 0: none yet, -1: its end, or an error */
static napi_value has_unread(napi_env env, napi_callback_info info) {
  napi_value args[1], result;
  int32_t fd;
  char byte;
  if (!read_arguments(env, info, 1, args) || !read_int(env, args[0], &fd)) return NULL;
  ssize_t count = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  bool is_waiting = count < 0 && (errno == EAGAIN || errno == EINTR);
  napi_create_int32(env, count > 0 ? 1 : is_waiting ? 0 : -1, &result);
  return result;
}

void add_tcp_life(napi_env env, napi_value exports) {
  const napi_property_descriptor functions[] = {
      FUNCTION("keepUrgentInline", keep_urgent_inline_call),
      FUNCTION("tcpCondition", tcp_condition_call),
      FUNCTION("takeSocketError", take_socket_error),
      FUNCTION("outlastSilence", outlast_silence_call),
      FUNCTION("setDeaf", set_deaf_call),
      FUNCTION("hasUnread", has_unread),
      FUNCTION("setProbing", set_probing_call),
  };
  ADD_FUNCTIONS(env, exports, functions);
}
