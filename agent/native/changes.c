/* What changes in a namespace (netlink), its /proc files, and its empty tables of rules. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <linux/netfilter.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "namespaces.h"
#include "nf-tables.h"
#include "node-values.h"

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

void add_changes(napi_env env, napi_value exports) {
  const napi_property_descriptor functions[] = {
      {"watchChanges", NULL, watch_changes, NULL, NULL, NULL, napi_enumerable, NULL},
      {"readProcFile", NULL, read_proc_file_call, NULL, NULL, NULL, napi_enumerable, NULL},
      {"deleteEmptyTable", NULL, delete_empty_table_call, NULL, NULL, NULL, napi_enumerable, NULL},
      {"takeChanges", NULL, take_changes_call, NULL, NULL, NULL, napi_enumerable, NULL},
  };
  napi_define_properties(env, exports, sizeof functions / sizeof functions[0], functions);
}
