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
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_addr.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <linux/netfilter.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conntrack.h"
#include "node-values.h"
#include "nf-tables.h"
#include "sock-diag.h"
#include "syn-queue.h"
#include "tcp-life.h"

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

/* One per environment (the main thread or a worker), so one per thread: the namespace that the thread belongs to. */
typedef struct {
  int own_netns_fd;
} thread_state;

/* ---- namespaces ---- */

static failure enter_netns(int netns_fd, thread_state *state) {
  if (netns_fd < 0) return success;
  if (state->own_netns_fd < 0) {
    state->own_netns_fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (state->own_netns_fd < 0) return failed("open the thread's own network namespace");
  }
  if (setns(netns_fd, CLONE_NEWNET) != 0) return failed("enter the network namespace (setns)");
  return success;
}

static void leave_netns(int netns_fd, const thread_state *state) {
  if (netns_fd < 0) return;
  if (setns(state->own_netns_fd, CLONE_NEWNET) == 0) return;
  perror("culvert: cannot return to the agent's own network namespace, aborting");
  abort();
}

/* ---- sockets ---- */

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

/* Gives every new connection of a SO_REUSEPORT group to its first socket. The program counts for the whole group. */
static failure steer_group(int fd) {
  struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
  const struct sock_fprog program = {.len = 1, .filter = code};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program) == 0) return success;
  return failed("set SO_ATTACH_REUSEPORT_CBPF");
}

/* ---- netlink: what changes in a namespace ---- */

/* The loopback interface is the first interface of every namespace. */
#define LOOPBACK_INDEX 1

static failure join_group(int fd, int group) {
  return setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) == 0
             ? success
             : failed("join a netlink multicast group");
}

/* Opens a socket that receives changes: of nftables, or of what policy routing through lo depends on. */
static failure open_watch(bool of_netfilter, int *fd) {
  static const int netfilter_groups[] = {NFNLGRP_NFTABLES, 0};
  static const int route_groups[] = {RTNLGRP_LINK,        RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_ROUTE,
                                     RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_RULE,  0};
  *fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, of_netfilter ? NETLINK_NETFILTER : NETLINK_ROUTE);
  if (*fd < 0) return failed("create a netlink socket");
  /* The kernel takes a sender without an address for itself and skips it when it multicasts. */
  const struct sockaddr_nl any = {.nl_family = AF_NETLINK};
  if (bind(*fd, (const struct sockaddr *)&any, sizeof any) != 0) return failed("bind a netlink socket");
  for (const int *group = of_netfilter ? netfilter_groups : route_groups; *group != 0; group++) {
    failure result = join_group(*fd, *group);
    if (result.step != NULL) return result;
  }
  return success;
}

/* Whether an rtnetlink(7) message concerns `table`, the rules that lead to it, or lo. */
static bool is_about(const struct nlmsghdr *message, int table) {
  if (NLMSG_PAYLOAD(message, 0) < sizeof(struct rtmsg)) return true;
  switch (message->nlmsg_type) {
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
      return ((const struct rtmsg *)NLMSG_DATA(message))->rtm_table == table;
    case RTM_NEWLINK:
    case RTM_DELLINK:
      return ((const struct ifinfomsg *)NLMSG_DATA(message))->ifi_index == LOOPBACK_INDEX;
    case RTM_NEWADDR:
    case RTM_DELADDR:
      return ((const struct ifaddrmsg *)NLMSG_DATA(message))->ifa_index == LOOPBACK_INDEX;
    default:
      return true;
  }
}

/* Reads all waiting messages. `table` 0: every message counts. Lost messages (ENOBUFS) count as a change. */
static failure take_changes(int fd, int table, bool *is_changed) {
  _Alignas(struct nlmsghdr) char buffer[16384];
  *is_changed = false;
  for (;;) {
    ssize_t length = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0 && errno == ENOBUFS) {
      *is_changed = true;
      continue;
    }
    if (length < 0) return errno == EAGAIN ? success : failed("read from a netlink socket");
    size_t left = (size_t)length;
    for (const struct nlmsghdr *message = (const struct nlmsghdr *)buffer; NLMSG_OK(message, left);
         message = NLMSG_NEXT(message, left)) {
      if (table == 0 || is_about(message, table)) *is_changed = true;
    }
  }
}

/* ---- /proc ---- */

/* Reads at most `size` bytes of a file, as seen from the thread's namespace. */
static failure read_proc_file(const char *path, char *out, size_t size, size_t *length) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return failed("open the file");
  *length = 0;
  ssize_t count = 1;
  while (*length < size && count > 0) {
    count = read(fd, out + *length, size - *length);
    if (count > 0) *length += (size_t)count;
  }
  failure result = count < 0 ? failed("read the file") : success;
  close(fd);
  return result;
}

/* ---- between JavaScript and C ---- */

static thread_state *state_of(napi_env env) {
  void *state = NULL;
  napi_get_instance_data(env, &state);
  return state;
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

/* steerGroup(fd) */
static napi_value steer_group_call(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int32_t fd;
  if (!read_arguments(env, info, 1, args) || !read_int(env, args[0], &fd)) return NULL;
  failure result = steer_group(fd);
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

/* exitAtOnce(code): ends the process and runs nothing more */
static napi_value exit_at_once(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int32_t code;
  if (!read_arguments(env, info, 1, args) || !read_int(env, args[0], &code)) return NULL;
  _exit(code);
}

/* closeFd(fd) */
static napi_value close_fd(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int32_t fd;
  if (!read_arguments(env, info, 1, args) || !read_int(env, args[0], &fd)) return NULL;
  return close(fd) == 0 ? NULL : throw_failure(env, failed("close a descriptor"));
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

  address local, peer;
  local.length = sizeof local.storage;
  peer.length = sizeof peer.storage;
  if (getsockname(fd, (struct sockaddr *)&local.storage, &local.length) != 0 ||
      getpeername(fd, (struct sockaddr *)&peer.storage, &peer.length) != 0)
    return throw_failure(env, failed("read the addresses"));
  int port = original_source_port(conntrack_fd, &local.storage, &peer.storage);
  if (port < 0) return throw_failure(env, failed("ask connection tracking"));
  napi_create_uint32(env, ntohs((uint16_t)port), &result);
  return result;
}

/* watchChanges(netnsFd | -1, ofNetfilter) -> fd */
static napi_value watch_changes(napi_env env, napi_callback_info info) {
  napi_value args[2];
  int32_t netns_fd;
  bool of_netfilter;
  if (!read_arguments(env, info, 2, args) || !read_int(env, args[0], &netns_fd) || !read_bool(env, args[1], &of_netfilter))
    return NULL;

  thread_state *state = state_of(env);
  failure result = enter_netns(netns_fd, state);
  if (result.step != NULL) return throw_failure(env, result);
  int fd;
  result = open_watch(of_netfilter, &fd);
  leave_netns(netns_fd, state);
  return fd_result(env, fd, result);
}

/* deleteEmptyTable(netnsFd | -1, isIpv6, name) -> whether it is gone */
static napi_value delete_empty_table_call(napi_env env, napi_callback_info info) {
  napi_value args[3], result;
  int32_t netns_fd;
  bool is_ipv6, is_gone;
  char name[256];
  if (!read_arguments(env, info, 3, args) || !read_int(env, args[0], &netns_fd) || !read_bool(env, args[1], &is_ipv6) ||
      !read_text(env, args[2], name, sizeof name))
    return NULL;

  thread_state *state = state_of(env);
  failure outcome = enter_netns(netns_fd, state);
  if (outcome.step != NULL) return throw_failure(env, outcome);
  outcome = delete_empty_table(is_ipv6 ? NFPROTO_IPV6 : NFPROTO_IPV4, name, &is_gone);
  leave_netns(netns_fd, state);
  if (outcome.step != NULL) return throw_failure(env, outcome);
  napi_get_boolean(env, is_gone, &result);
  return result;
}

/* takeChanges(fd, table | 0) -> boolean */
static napi_value take_changes_call(napi_env env, napi_callback_info info) {
  napi_value args[2], result;
  int32_t fd, table;
  if (!read_arguments(env, info, 2, args) || !read_int(env, args[0], &fd) || !read_int(env, args[1], &table)) return NULL;

  bool is_changed;
  failure outcome = take_changes(fd, table, &is_changed);
  if (outcome.step != NULL) return throw_failure(env, outcome);
  napi_get_boolean(env, is_changed, &result);
  return result;
}

/* readProcFile(netnsFd | -1, path) -> text, its first 16 KiB */
static napi_value read_proc_file_call(napi_env env, napi_callback_info info) {
  napi_value args[2], result;
  int32_t netns_fd;
  char path[256], text[16384];
  size_t length;
  if (!read_arguments(env, info, 2, args) || !read_int(env, args[0], &netns_fd) ||
      !read_text(env, args[1], path, sizeof path))
    return NULL;

  thread_state *state = state_of(env);
  failure outcome = enter_netns(netns_fd, state);
  if (outcome.step != NULL) return throw_failure(env, outcome);
  outcome = read_proc_file(path, text, sizeof text, &length);
  leave_netns(netns_fd, state);
  if (outcome.step != NULL) return throw_failure(env, outcome);
  napi_create_string_utf8(env, text, length, &result);
  return result;
}

/* keepUrgentInline(fd) */
static napi_value keep_urgent_inline_call(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int32_t fd;
  if (!read_arguments(env, info, 1, args) || !read_int(env, args[0], &fd)) return NULL;
  failure result = keep_urgent_inline(fd);
  return result.step == NULL ? NULL : throw_failure(env, result);
}

/* setProbing(fd, idleSeconds, intervalSeconds, count, longestRetransmitMs | 0) */
static napi_value set_probing_call(napi_env env, napi_callback_info info) {
  napi_value args[5];
  int32_t fd;
  probing how;
  if (!read_arguments(env, info, 5, args) || !read_int(env, args[0], &fd) ||
      !read_int(env, args[1], &how.idle_seconds) || !read_int(env, args[2], &how.interval_seconds) ||
      !read_int(env, args[3], &how.count) || !read_int(env, args[4], &how.longest_retransmit_ms))
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

/* tcpCondition(fd) -> [state, unanswered probes, ms since sent, ms since received] */
static napi_value tcp_condition_call(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int32_t fd;
  if (!read_arguments(env, info, 1, args) || !read_int(env, args[0], &fd)) return NULL;
  tcp_condition found;
  failure result = read_condition(fd, &found);
  if (result.step != NULL) return throw_failure(env, result);
  const double values[] = {found.state, found.unanswered_probes, found.ms_since_sent, found.ms_since_received};
  return number_array(env, values, 4);
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

/* queuePlaceholder() -> fd */
static napi_value queue_placeholder(napi_env env, napi_callback_info info) {
  (void)info;
  int fd = -1;
  failure result = open_placeholder(&fd);
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
      {"listenTcp", NULL, listen_tcp, NULL, NULL, NULL, napi_enumerable, NULL},
      {"dialSocket", NULL, dial_socket, NULL, NULL, NULL, napi_enumerable, NULL},
      {"steerGroup", NULL, steer_group_call, NULL, NULL, NULL, napi_enumerable, NULL},
      {"closeFd", NULL, close_fd, NULL, NULL, NULL, napi_enumerable, NULL},
      {"originalDestination", NULL, original_destination, NULL, NULL, NULL, napi_enumerable, NULL},
      {"openConntrack", NULL, open_conntrack_call, NULL, NULL, NULL, napi_enumerable, NULL},
      {"originalSourcePort", NULL, original_source_port_call, NULL, NULL, NULL, napi_enumerable, NULL},
      {"socketAddresses", NULL, socket_addresses, NULL, NULL, NULL, napi_enumerable, NULL},
      {"resetOnClose", NULL, reset_on_close, NULL, NULL, NULL, napi_enumerable, NULL},
      {"exitAtOnce", NULL, exit_at_once, NULL, NULL, NULL, napi_enumerable, NULL},
      {"watchChanges", NULL, watch_changes, NULL, NULL, NULL, napi_enumerable, NULL},
      {"readProcFile", NULL, read_proc_file_call, NULL, NULL, NULL, napi_enumerable, NULL},
      {"deleteEmptyTable", NULL, delete_empty_table_call, NULL, NULL, NULL, napi_enumerable, NULL},
      {"takeChanges", NULL, take_changes_call, NULL, NULL, NULL, napi_enumerable, NULL},
      {"keepUrgentInline", NULL, keep_urgent_inline_call, NULL, NULL, NULL, napi_enumerable, NULL},
      {"tcpCondition", NULL, tcp_condition_call, NULL, NULL, NULL, napi_enumerable, NULL},
      {"openSockDiag", NULL, open_sock_diag_call, NULL, NULL, NULL, napi_enumerable, NULL},
      {"takeSocketError", NULL, take_socket_error, NULL, NULL, NULL, napi_enumerable, NULL},
      {"setDeaf", NULL, set_deaf_call, NULL, NULL, NULL, napi_enumerable, NULL},
      {"queuePlaceholder", NULL, queue_placeholder, NULL, NULL, NULL, napi_enumerable, NULL},
      {"openSynQueue", NULL, open_syn_queue_call, NULL, NULL, NULL, napi_enumerable, NULL},
      {"reservePort", NULL, reserve_port, NULL, NULL, NULL, napi_enumerable, NULL},
      {"setProbing", NULL, set_probing_call, NULL, NULL, NULL, napi_enumerable, NULL},
  };
  napi_define_properties(env, exports, sizeof functions / sizeof functions[0], functions);
  add_passed_sockets(env, exports);
  add_sock_diag(env, exports);
  return exports;
}
