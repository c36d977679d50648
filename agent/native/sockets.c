/* Sockets in another network namespace, and what Node does not tell about a connection. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "ask.h"
#include "node-values.h"

/* linux/netfilter_ipv4.h and linux/netfilter_ipv6/ip6_tables.h use the same number. */
#define ORIGINAL_DST 80

typedef struct {
  struct sockaddr_storage storage;
  socklen_t length;
} address;

/* listenTcp(netnsFd | -1, host, port, backlog, reusePort, transparent) -> fd */
static napi_value listen_tcp(napi_env env, napi_callback_info info) {
  napi_value args[6];
  int32_t netns_fd, port;
  act_request what = {.act = ACT_LISTEN};
  char host[INET6_ADDRSTRLEN + 1];
  if (!read_arguments(env, info, 6, args) || !read_int(env, args[0], &netns_fd) ||
      !read_text(env, args[1], host, sizeof host) || !read_int(env, args[2], &port) ||
      !read_int(env, args[3], &what.backlog) || !read_bool(env, args[4], &what.is_port_shared) ||
      !read_bool(env, args[5], &what.is_transparent))
    return NULL;
  if (!parse_address(host, (uint16_t)port, &what.local))
    return throw_failure(env, (failure){"parse the address to listen on", EINVAL});
  return ask_for_fd(env, &what, netns_fd);
}

/* makeTransparent(fd): of a socket that exists, whatever its state */
static napi_value make_transparent(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int32_t fd;
  act_request what = {.act = ACT_MAKE_TRANSPARENT};
  if (!read_arguments(env, info, 1, args) || !read_int(env, args[0], &fd)) return NULL;
  failure result = ask_about(&what, &fd, 1, NULL);
  return result.step == NULL ? NULL : throw_failure(env, result);
}

/* Writes an address without its zone, and its port, into an array from `at` on. */
static void set_address(napi_env env, napi_value array, uint32_t at, int family, const address *from) {
  const struct sockaddr_in *v4 = (const struct sockaddr_in *)&from->storage;
  const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&from->storage;
  char text[INET6_ADDRSTRLEN];
  const void *bytes = family == 6 ? (const void *)&v6->sin6_addr : (const void *)&v4->sin_addr;
  inet_ntop(family == 6 ? AF_INET6 : AF_INET, bytes, text, sizeof text);
  napi_value ip, port;
  napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &ip);
  napi_create_uint32(env, ntohs(family == 6 ? v6->sin6_port : v4->sin_port), &port);
  napi_set_element(env, array, at, ip);
  napi_set_element(env, array, at + 1, port);
}

/* originalDestination(fd, family 4 | 6) -> [ip, port] | null */
static napi_value original_destination(napi_env env, napi_callback_info info) {
  napi_value args[2];
  int32_t fd, family;
  if (!read_arguments(env, info, 2, args) || !read_int(env, args[0], &fd) || !read_int(env, args[1], &family)) return NULL;

  address found;
  memset(&found, 0, sizeof found);
  found.length = sizeof found.storage;
  napi_value result;
  if (getsockopt(fd, family == 6 ? SOL_IPV6 : SOL_IP, ORIGINAL_DST, &found.storage, &found.length) != 0) {
    if (errno != ENOENT) return throw_failure(env, failed("read SO_ORIGINAL_DST"));
    napi_get_null(env, &result);
    return result;
  }
  napi_create_array_with_length(env, 2, &result);
  set_address(env, result, 0, family, &found);
  return result;
}

/* socketAddresses(fd) -> [local ip, local port, peer ip, peer port], or without the peer when it has gone */
static napi_value socket_addresses(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int32_t fd;
  if (!read_arguments(env, info, 1, args) || !read_int(env, args[0], &fd)) return NULL;

  address local, peer;
  memset(&peer, 0, sizeof peer);
  local.length = sizeof local.storage;
  peer.length = sizeof peer.storage;
  if (getsockname(fd, (struct sockaddr *)&local.storage, &local.length) != 0) return throw_failure(env, failed("getsockname"));
  bool has_peer = getpeername(fd, (struct sockaddr *)&peer.storage, &peer.length) == 0;
  if (!has_peer && errno != ENOTCONN) return throw_failure(env, failed("getpeername"));

  int family = local.storage.ss_family == AF_INET6 ? 6 : 4;
  napi_value result;
  napi_create_array_with_length(env, has_peer ? 4 : 2, &result);
  set_address(env, result, 0, family, &local);
  if (has_peer) set_address(env, result, 2, family, &peer);
  return result;
}

/* resetOnClose(fd): closing it sends RST, and what has not left by then is dropped */
static napi_value reset_on_close(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int32_t fd;
  if (!read_arguments(env, info, 1, args) || !read_int(env, args[0], &fd)) return NULL;

  const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
  if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) != 0)
    return throw_failure(env, failed("set SO_LINGER"));
  return NULL;
}

/* closeFd(fd) */
static napi_value close_fd(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int32_t fd;
  if (!read_arguments(env, info, 1, args) || !read_int(env, args[0], &fd)) return NULL;
  return close(fd) == 0 ? NULL : throw_failure(env, failed("close a descriptor"));
}

/* shutDown(fd): every copy of a listening socket stops to listen, in other processes too */
static napi_value shut_down(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int32_t fd;
  if (!read_arguments(env, info, 1, args) || !read_int(env, args[0], &fd)) return NULL;
  return shutdown(fd, SHUT_RDWR) == 0 ? NULL : throw_failure(env, failed("shut down a socket"));
}

void add_sockets(napi_env env, napi_value exports) {
  const napi_property_descriptor functions[] = {
      FUNCTION("listenTcp", listen_tcp),
      FUNCTION("makeTransparent", make_transparent),
      FUNCTION("closeFd", close_fd),
      FUNCTION("originalDestination", original_destination),
      FUNCTION("socketAddresses", socket_addresses),
      FUNCTION("resetOnClose", reset_on_close),
      FUNCTION("shutDown", shut_down),
  };
  ADD_FUNCTIONS(env, exports, functions);
}
