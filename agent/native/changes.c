/* What changes in a namespace (netlink), its /proc files, and its empty tables of rules. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "ask.h"
#include "node-values.h"

/* The loopback interface is the first interface of every namespace. */
#define LOOPBACK_INDEX 1

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

/* watchChanges(netnsFd | -1, ofNetfilter) -> fd */
static napi_value watch_changes(napi_env env, napi_callback_info info) {
  napi_value args[2];
  int32_t netns_fd;
  act_request what = {.act = ACT_WATCH};
  if (!read_arguments(env, info, 2, args) || !read_int(env, args[0], &netns_fd) ||
      !read_bool(env, args[1], &what.is_of_netfilter))
    return NULL;
  return ask_for_fd(env, &what, netns_fd);
}

/* deleteEmptyTable(netnsFd | -1, isIpv6, name) -> whether it is gone */
static napi_value delete_empty_table_call(napi_env env, napi_callback_info info) {
  napi_value args[3], result;
  int32_t netns_fd;
  act_request what = {.act = ACT_DELETE_EMPTY_TABLE};
  if (!read_arguments(env, info, 3, args) || !read_int(env, args[0], &netns_fd) || !read_bool(env, args[1], &what.is_ipv6) ||
      !read_request_text(env, args[2], &what))
    return NULL;

  act_reply reply;
  failure outcome = ask_in(&what, netns_fd, NULL, 0, &reply, NULL);
  if (outcome.step != NULL) return throw_failure(env, outcome);
  napi_get_boolean(env, reply.value == 1, &result);
  return result;
}

/* foundTables(netnsFd | -1) -> 0: none, 1: of iptables only, 2: others */
static napi_value found_tables_call(napi_env env, napi_callback_info info) {
  napi_value args[1], result;
  int32_t netns_fd;
  const act_request what = {.act = ACT_FIND_TABLES};
  if (!read_arguments(env, info, 1, args) || !read_int(env, args[0], &netns_fd)) return NULL;

  act_reply reply;
  failure outcome = ask_in(&what, netns_fd, NULL, 0, &reply, NULL);
  if (outcome.step != NULL) return throw_failure(env, outcome);
  napi_create_int64(env, reply.value, &result);
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
  act_request what = {.act = ACT_READ_FILE};
  if (!read_arguments(env, info, 2, args) || !read_int(env, args[0], &netns_fd) || !read_request_text(env, args[1], &what))
    return NULL;

  act_reply reply;
  failure outcome = ask_in(&what, netns_fd, NULL, 0, &reply, NULL);
  if (outcome.step != NULL) return throw_failure(env, outcome);
  napi_create_string_utf8(env, reply.text, reply.length, &result);
  return result;
}

void add_changes(napi_env env, napi_value exports) {
  const napi_property_descriptor functions[] = {
      FUNCTION("watchChanges", watch_changes),
      FUNCTION("readProcFile", read_proc_file_call),
      FUNCTION("deleteEmptyTable", delete_empty_table_call),
      FUNCTION("foundTables", found_tables_call),
      FUNCTION("takeChanges", take_changes_call),
  };
  ADD_FUNCTIONS(env, exports, functions);
}
