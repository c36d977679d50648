/*
 * What Node has no API for: sockets in another network namespace, SO_MARK, IP_TRANSPARENT, SO_REUSEPORT,
 * SO_ORIGINAL_DST, addresses without their zone, netlink, and /proc files of another namespace. Each call is
 * synchronous and returns plain values; addon.ts adds types and error classes. What needs capabilities is a request
 * (request.h), which the privileged helper performs where the process has one (ask.c).
 *
 * A failing step throws an Error whose message names the step and whose `errno` is the number.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "ask.h"
#include "node-values.h"
#include "syn-queue.h"

/* exitAtOnce(code): ends the process and runs nothing more */
static napi_value exit_at_once(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int32_t code;
  if (!read_arguments(env, info, 1, args) || !read_int(env, args[0], &code)) return NULL;
  _exit(code);
}

/* openConntrack(netnsFd | -1) -> fd */
static napi_value open_conntrack_call(napi_env env, napi_callback_info info) {
  return open_in_namespace(env, info, ACT_OPEN_CONNTRACK);
}

/* originalSourcePort(conntrackFd, fd) -> port, or 0 when connection tracking does not have the connection */
static napi_value original_source_port_call(napi_env env, napi_callback_info info) {
  napi_value args[2], result;
  int32_t conntrack_fd, fd;
  if (!read_arguments(env, info, 2, args) || !read_int(env, args[0], &conntrack_fd) || !read_int(env, args[1], &fd))
    return NULL;

  act_request what = {.act = ACT_ASK_CONNTRACK};
  act_reply reply;
  failure outcome = read_ends(fd, &what);
  if (outcome.step == NULL) outcome = ask_about(&what, &conntrack_fd, 1, &reply);
  if (outcome.step != NULL) return throw_failure(env, outcome);
  napi_create_uint32(env, ntohs((uint16_t)reply.value), &result);
  return result;
}

static bool read_address(napi_env env, const napi_value *args, struct sockaddr_storage *out) {
  char text[INET6_ADDRSTRLEN + 1];
  int32_t port;
  if (!read_text(env, args[0], text, sizeof text) || !read_int(env, args[1], &port)) return false;
  if (parse_address(text, (uint16_t)port, out)) return true;
  throw_failure(env, (failure){"parse an address", EINVAL});
  return false;
}

/* isTracked(conntrackFd, server ip, port, client ip, port) -> whether connection tracking has the connection */
static napi_value is_tracked_call(napi_env env, napi_callback_info info) {
  napi_value args[5], result;
  int32_t conntrack_fd;
  act_request what = {.act = ACT_ASK_CONNTRACK};
  act_reply reply;
  if (!read_arguments(env, info, 5, args) || !read_int(env, args[0], &conntrack_fd) ||
      !read_address(env, args + 1, &what.local) || !read_address(env, args + 3, &what.remote))
    return NULL;
  failure outcome = ask_about(&what, &conntrack_fd, 1, &reply);
  if (outcome.step != NULL) return throw_failure(env, outcome);
  napi_get_boolean(env, reply.value > 0, &result);
  return result;
}

/* openSockDiag(netnsFd | -1) -> fd */
static napi_value open_sock_diag_call(napi_env env, napi_callback_info info) {
  return open_in_namespace(env, info, ACT_OPEN_SOCK_DIAG);
}

/* replaceableSocket() -> fd: of a Unix socket that Node takes and openSynQueue turns into the queue */
static napi_value replaceable_socket(napi_env env, napi_callback_info info) {
  (void)info;
  int fd = -1;
  failure result = open_replaceable_socket(&fd);
  return fd_result(env, fd, result);
}

/* openSynQueue(netnsFd | -1, fd, number, maxLength) */
static napi_value open_syn_queue_call(napi_env env, napi_callback_info info) {
  napi_value args[4];
  int32_t netns_fd, fd, number, max_length;
  act_request what = {.act = ACT_OPEN_QUEUE};
  if (!read_arguments(env, info, 4, args) || !read_int(env, args[0], &netns_fd) || !read_int(env, args[1], &fd) ||
      !read_int(env, args[2], &number) || !read_int(env, args[3], &max_length))
    return NULL;
  what.port = (uint16_t)number;
  what.max_length = (uint32_t)max_length;
  made_fds queue;
  failure result = ask_for_fds(&what, netns_fd, &queue);
  if (result.step == NULL && dup3(queue.fds[0], fd, O_CLOEXEC) < 0)
    result = failed("move the packet queue to its descriptor");
  if (queue.count > 0) close(queue.fds[0]);
  return result.step == NULL ? NULL : throw_failure(env, result);
}

/* giveVerdict(fd of a queue, message) */
static napi_value give_verdict(napi_env env, napi_callback_info info) {
  napi_value args[2];
  int32_t fd;
  void *message;
  size_t length;
  act_request what = {.act = ACT_SEND_VERDICT};
  if (!read_arguments(env, info, 2, args) || !read_int(env, args[0], &fd)) return NULL;
  if (napi_get_buffer_info(env, args[1], &message, &length) != napi_ok || length > sizeof what.text) {
    napi_throw_type_error(env, NULL, "culvert.node: expected a short buffer");
    return NULL;
  }
  memcpy(what.text, message, length);
  what.length = (uint32_t)length;
  failure result = ask_about(&what, &fd, 1, NULL);
  return result.step == NULL ? NULL : throw_failure(env, result);
}

NAPI_MODULE_INIT() {
  napi_add_env_cleanup_hook(env, close_own_netns, NULL);
  const napi_property_descriptor functions[] = {
      FUNCTION("openConntrack", open_conntrack_call),
      FUNCTION("originalSourcePort", original_source_port_call),
      FUNCTION("isTracked", is_tracked_call),
      FUNCTION("exitAtOnce", exit_at_once),
      FUNCTION("openSockDiag", open_sock_diag_call),
      FUNCTION("replaceableSocket", replaceable_socket),
      FUNCTION("giveVerdict", give_verdict),
      FUNCTION("openSynQueue", open_syn_queue_call),
  };
  ADD_FUNCTIONS(env, exports, functions);
  add_sockets(env, exports);
  add_dials(env, exports);
  add_client_ports(env, exports);
  add_changes(env, exports);
  add_tcp_life(env, exports);
  add_passed_sockets(env, exports);
  add_sock_diag(env, exports);
  add_helper(env, exports);
  add_confinement(env, exports);
  add_io(env, exports);
  return exports;
}
