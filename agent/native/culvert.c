/*
 * What Node has no API for: sockets in another network namespace, SO_MARK, IP_TRANSPARENT, SO_REUSEPORT,
 * SO_ORIGINAL_DST, addresses without their zone, netlink, and /proc files of another namespace. Each call is
 * synchronous and returns plain values; addon.ts adds types and error classes.
 *
 * A thread that enters a workload's namespace leaves it before the call returns, or the process aborts: anything
 * that ran on that thread afterwards would dial as the workload.
 *
 * A failing step throws an Error whose message names the step and whose `errno` is the number.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conntrack.h"
#include "namespaces.h"
#include "node-values.h"
#include "sock-diag.h"
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
  napi_value args[1];
  int32_t netns_fd;
  if (!read_arguments(env, info, 1, args) || !read_int(env, args[0], &netns_fd)) return NULL;
  thread_state *state = state_of(env);
  failure result = enter_netns(netns_fd, state);
  if (result.step != NULL) return throw_failure(env, result);
  int fd = open_conntrack();
  result = fd < 0 ? failed("create a netlink socket") : success;
  leave_netns(netns_fd, state);
  return fd_result(env, fd, result);
}

/* originalSourcePort(conntrackFd, fd) -> port, or 0 when connection tracking does not have the connection */
static napi_value original_source_port_call(napi_env env, napi_callback_info info) {
  napi_value args[2], result;
  int32_t conntrack_fd, fd;
  if (!read_arguments(env, info, 2, args) || !read_int(env, args[0], &conntrack_fd) || !read_int(env, args[1], &fd))
    return NULL;

  struct sockaddr_storage local, peer;
  socklen_t local_length = sizeof local, peer_length = sizeof peer;
  if (getsockname(fd, (struct sockaddr *)&local, &local_length) != 0 ||
      getpeername(fd, (struct sockaddr *)&peer, &peer_length) != 0)
    return throw_failure(env, failed("read the addresses"));
  int port = original_source_port(conntrack_fd, &local, &peer);
  if (port < 0) return throw_failure(env, failed("ask connection tracking"));
  napi_create_uint32(env, ntohs((uint16_t)port), &result);
  return result;
}

static bool read_address(napi_env env, const napi_value *args, struct sockaddr_storage *out) {
  char text[INET6_ADDRSTRLEN + 1];
  int32_t port;
  if (!read_text(env, args[0], text, sizeof text) || !read_int(env, args[1], &port)) return false;
  memset(out, 0, sizeof *out);
  struct sockaddr_in *v4 = (struct sockaddr_in *)out;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
  if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons((uint16_t)port);
    return true;
  }
  if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons((uint16_t)port);
    return true;
  }
  throw_failure(env, (failure){"parse an address", EINVAL});
  return false;
}

/* isTracked(conntrackFd, server ip, port, client ip, port) -> whether connection tracking has the connection */
static napi_value is_tracked_call(napi_env env, napi_callback_info info) {
  napi_value args[5], result;
  int32_t conntrack_fd;
  struct sockaddr_storage server, client;
  if (!read_arguments(env, info, 5, args) || !read_int(env, args[0], &conntrack_fd) ||
      !read_address(env, args + 1, &server) || !read_address(env, args + 3, &client))
    return NULL;
  int found = is_tracked(conntrack_fd, &server, &client);
  if (found < 0) return throw_failure(env, failed("ask connection tracking"));
  napi_get_boolean(env, found == 1, &result);
  return result;
}

/* openSockDiag(netnsFd | -1) -> fd */
static napi_value open_sock_diag_call(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int32_t netns_fd;
  if (!read_arguments(env, info, 1, args) || !read_int(env, args[0], &netns_fd)) return NULL;

  thread_state *state = state_of(env);
  failure result = enter_netns(netns_fd, state);
  if (result.step != NULL) return throw_failure(env, result);
  int fd;
  result = open_sock_diag(&fd);
  leave_netns(netns_fd, state);
  return fd_result(env, fd, result);
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
  if (!read_arguments(env, info, 4, args) || !read_int(env, args[0], &netns_fd) || !read_int(env, args[1], &fd) ||
      !read_int(env, args[2], &number) || !read_int(env, args[3], &max_length))
    return NULL;

  thread_state *state = state_of(env);
  failure result = enter_netns(netns_fd, state);
  if (result.step != NULL) return throw_failure(env, result);
  result = open_syn_queue(fd, (uint16_t)number, (uint32_t)max_length);
  leave_netns(netns_fd, state);
  return result.step == NULL ? NULL : throw_failure(env, result);
}

static void free_state(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  thread_state *state = data;
  if (state->own_netns_fd >= 0) close(state->own_netns_fd);
  free(state);
}

NAPI_MODULE_INIT() {
  thread_state *state = malloc(sizeof *state);
  if (state == NULL) {
    napi_throw_error(env, "ENOMEM", "culvert.node: out of memory");
    return NULL;
  }
  state->own_netns_fd = -1;
  napi_set_instance_data(env, state, free_state, NULL);
  const napi_property_descriptor functions[] = {
      {"openConntrack", NULL, open_conntrack_call, NULL, NULL, NULL, napi_enumerable, NULL},
      {"originalSourcePort", NULL, original_source_port_call, NULL, NULL, NULL, napi_enumerable, NULL},
      {"isTracked", NULL, is_tracked_call, NULL, NULL, NULL, napi_enumerable, NULL},
      {"exitAtOnce", NULL, exit_at_once, NULL, NULL, NULL, napi_enumerable, NULL},
      {"openSockDiag", NULL, open_sock_diag_call, NULL, NULL, NULL, napi_enumerable, NULL},
      {"replaceableSocket", NULL, replaceable_socket, NULL, NULL, NULL, napi_enumerable, NULL},
      {"openSynQueue", NULL, open_syn_queue_call, NULL, NULL, NULL, napi_enumerable, NULL},
  };
  napi_define_properties(env, exports, sizeof functions / sizeof functions[0], functions);
  add_sockets(env, exports);
  add_changes(env, exports);
  add_tcp_life(env, exports);
  add_passed_sockets(env, exports);
  add_sock_diag(env, exports);
  return exports;
}
