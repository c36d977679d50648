/* Sockets in another network namespace, and what Node does not tell about a connection. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "namespaces.h"
#include "node-values.h"

/* From the kernel's headers linux/in.h and linux/in6.h, which do not mix with libc's. */
#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif
/* Since Linux 6.3. */
#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif
#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif
/* linux/netfilter_ipv4.h and linux/netfilter_ipv6/ip6_tables.h use the same number. */
#define ORIGINAL_DST 80

typedef struct {
  struct sockaddr_storage storage;
  socklen_t length;
} address;

static bool parse_address(const char *host, uint16_t port, address *out) {
  memset(out, 0, sizeof *out);
  struct sockaddr_in *v4 = (struct sockaddr_in *)&out->storage;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&out->storage;
  if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    out->length = sizeof *v4;
    return true;
  }
  if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    out->length = sizeof *v6;
    return true;
  }
  return false;
}

static int open_socket(int family) { return socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP); }

static bool set_option(int fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof value) == 0;
}

static failure set_transparent(int fd, int family) {
  bool ok = family == AF_INET6 ? set_option(fd, SOL_IPV6, IPV6_TRANSPARENT, 1) : set_option(fd, SOL_IP, IP_TRANSPARENT, 1);
  return ok ? success : failed("set IP_TRANSPARENT");
}

static failure prepare_listener(int fd, const address *at, int backlog, bool reuse_port, bool transparent) {
  /* Accepted sockets inherit it from the listener. */
  if (!set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1)) return failed("set TCP_NODELAY");
  if (!set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1)) return failed("set SO_REUSEADDR");
  if (reuse_port && !set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1)) return failed("set SO_REUSEPORT");
  if (at->storage.ss_family == AF_INET6) {
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&at->storage;
    if (!set_option(fd, SOL_IPV6, IPV6_V6ONLY, !IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr))) return failed("set IPV6_V6ONLY");
  }
  if (transparent) {
    failure result = set_transparent(fd, at->storage.ss_family);
    if (result.step != NULL) return result;
  }
  if (bind(fd, (const struct sockaddr *)&at->storage, at->length) != 0) return failed("bind the listening socket");
  if (listen(fd, backlog) != 0) return failed("listen");
  return success;
}

/*
 * Asks for one port at connect. A bind to the port would keep it from every other dial in the namespace, and many clients'
 * ports together would use up the range; a port that connect chooses is shared by all destinations. The kernel ignores a
 * port outside the namespace's own ip_local_port_range, so no application loses a port that it could count on; connect
 * fails with EADDRNOTAVAIL when the port is taken. SO_REUSEADDR lets a server with the same option bind the port meanwhile.
 */
static failure wish_for_port(int fd, uint16_t port) {
  const uint32_t range = (uint32_t)port << 16 | port;
  if (setsockopt(fd, SOL_IP, IP_LOCAL_PORT_RANGE, &range, sizeof range) != 0)
    return errno == ENOPROTOOPT ? success : failed("set IP_LOCAL_PORT_RANGE");
  return set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) ? success : failed("set SO_REUSEADDR");
}

/* `port` 0: any. */
static failure prepare_dial(int fd, int family, uint32_t mark, const address *source, uint16_t port) {
  if (!set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1)) return failed("set TCP_NODELAY");
  if (mark != 0 && setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark) != 0) return failed("set SO_MARK");
  if (source == NULL) return success;
  failure result = set_transparent(fd, family);
  if (result.step != NULL) return result;
  /* The kernel then chooses the port at connect, per destination. Otherwise all destinations would share 28,000
   * ports. */
  if (!set_option(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)) return failed("set IP_BIND_ADDRESS_NO_PORT");
  if (bind(fd, (const struct sockaddr *)&source->storage, source->length) != 0) return failed("bind the source address");
  return port == 0 ? success : wish_for_port(fd, port);
}

/* listenTcp(netnsFd | -1, host, port, backlog, reusePort, transparent) -> fd */
static napi_value listen_tcp(napi_env env, napi_callback_info info) {
  napi_value args[6];
  int32_t netns_fd, port, backlog;
  bool reuse_port, transparent;
  char host[INET6_ADDRSTRLEN + 1];
  if (!read_arguments(env, info, 6, args) || !read_int(env, args[0], &netns_fd) ||
      !read_text(env, args[1], host, sizeof host) || !read_int(env, args[2], &port) ||
      !read_int(env, args[3], &backlog) || !read_bool(env, args[4], &reuse_port) ||
      !read_bool(env, args[5], &transparent))
    return NULL;

  address at;
  if (!parse_address(host, (uint16_t)port, &at)) return throw_failure(env, (failure){"parse the address to listen on", EINVAL});
  thread_state *state = state_of(env);
  failure result = enter_netns(netns_fd, state);
  if (result.step != NULL) return throw_failure(env, result);
  int fd = open_socket(at.storage.ss_family);
  if (fd < 0 && errno == EAFNOSUPPORT && strcmp(host, "::") == 0) {
    /* A kernel without IPv6: dual stack means IPv4 only. */
    parse_address("0.0.0.0", (uint16_t)port, &at);
    fd = open_socket(AF_INET);
  }
  result = fd < 0 ? failed("create the listening socket")
                  : prepare_listener(fd, &at, backlog, reuse_port, transparent);
  leave_netns(netns_fd, state);
  return fd_result(env, fd, result);
}

/* dialSocket(netnsFd | -1, family 4 | 6, mark, source | '', sourcePort | 0) -> fd */
static napi_value dial_socket(napi_env env, napi_callback_info info) {
  napi_value args[5];
  int32_t netns_fd, family, mark, source_port;
  char source_text[INET6_ADDRSTRLEN + 1];
  if (!read_arguments(env, info, 5, args) || !read_int(env, args[0], &netns_fd) || !read_int(env, args[1], &family) ||
      !read_int(env, args[2], &mark) || !read_text(env, args[3], source_text, sizeof source_text) ||
      !read_int(env, args[4], &source_port))
    return NULL;

  int domain = family == 6 ? AF_INET6 : AF_INET;
  address source;
  bool has_source = source_text[0] != '\0';
  if (has_source && (!parse_address(source_text, 0, &source) || source.storage.ss_family != domain))
    return throw_failure(env, (failure){"parse the source address of this family", EINVAL});
  thread_state *state = state_of(env);
  failure result = enter_netns(netns_fd, state);
  if (result.step != NULL) return throw_failure(env, result);
  int fd = open_socket(domain);
  result = fd < 0 ? failed("create the dialling socket")
                  : prepare_dial(fd, domain, (uint32_t)mark, has_source ? &source : NULL, (uint16_t)source_port);
  leave_netns(netns_fd, state);
  return fd_result(env, fd, result);
}

/* makeTransparent(fd): of a socket that exists, whatever its state */
static napi_value make_transparent(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int32_t fd;
  if (!read_arguments(env, info, 1, args) || !read_int(env, args[0], &fd)) return NULL;
  address local;
  local.length = sizeof local.storage;
  if (getsockname(fd, (struct sockaddr *)&local.storage, &local.length) != 0) return throw_failure(env, failed("getsockname"));
  failure result = set_transparent(fd, local.storage.ss_family);
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

/* reservePort(netnsFd | -1, host, port) -> fd: bound, and not listening */
static napi_value reserve_port(napi_env env, napi_callback_info info) {
  napi_value args[3];
  int32_t netns_fd, port;
  char host[INET6_ADDRSTRLEN + 1];
  if (!read_arguments(env, info, 3, args) || !read_int(env, args[0], &netns_fd) ||
      !read_text(env, args[1], host, sizeof host) || !read_int(env, args[2], &port))
    return NULL;

  address at;
  if (!parse_address(host, (uint16_t)port, &at)) return throw_failure(env, (failure){"parse the address to reserve", EINVAL});
  thread_state *state = state_of(env);
  failure result = enter_netns(netns_fd, state);
  if (result.step != NULL) return throw_failure(env, result);
  int fd = open_socket(at.storage.ss_family);
  result = fd < 0 ? failed("create the reserving socket") : success;
  if (fd >= 0 && bind(fd, (const struct sockaddr *)&at.storage, at.length) != 0) result = failed("bind the reserving socket");
  leave_netns(netns_fd, state);
  return fd_result(env, fd, result);
}

void add_sockets(napi_env env, napi_value exports) {
  const napi_property_descriptor functions[] = {
      {"listenTcp", NULL, listen_tcp, NULL, NULL, NULL, napi_enumerable, NULL},
      {"dialSocket", NULL, dial_socket, NULL, NULL, NULL, napi_enumerable, NULL},
      {"makeTransparent", NULL, make_transparent, NULL, NULL, NULL, napi_enumerable, NULL},
      {"closeFd", NULL, close_fd, NULL, NULL, NULL, napi_enumerable, NULL},
      {"originalDestination", NULL, original_destination, NULL, NULL, NULL, napi_enumerable, NULL},
      {"socketAddresses", NULL, socket_addresses, NULL, NULL, NULL, napi_enumerable, NULL},
      {"resetOnClose", NULL, reset_on_close, NULL, NULL, NULL, napi_enumerable, NULL},
      {"shutDown", NULL, shut_down, NULL, NULL, NULL, napi_enumerable, NULL},
      {"reservePort", NULL, reserve_port, NULL, NULL, NULL, napi_enumerable, NULL},
  };
  napi_define_properties(env, exports, sizeof functions / sizeof functions[0], functions);
}
