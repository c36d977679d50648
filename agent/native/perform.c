#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* After libc's addresses, which it does not mix with otherwise. */
#include <netinet/in.h>

#include <linux/netfilter.h>

#include "conntrack.h"
#include "make-sockets.h"
#include "namespace-questions.h"
#include "nf-tables.h"
#include "request.h"
#include "sock-diag.h"
#include "syn-queue.h"
#include "watch-connections.h"

#define EARLY_DEMUX "/proc/sys/net/ipv4/tcp_early_demux"

static failure failed(const char *step) { return (failure){step, errno}; }
static const failure success = {NULL, 0};

static failure enter(int netns, int *own) {
  if (*own < 0) {
    *own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (*own < 0) return failed("open the thread's own network namespace");
  }
  return setns(netns, CLONE_NEWNET) == 0 ? success : failed("enter the network namespace (setns)");
}

/* Aborts the process when the way back fails: what ran on the thread afterwards would dial as the workload. */
static void leave(int own) {
  if (setns(own, CLONE_NEWNET) == 0) return;
  perror("culvert: cannot return to the agent's own network namespace, aborting");
  abort();
}

static failure ask_conntrack(const act_request *what, int fd, act_reply *out) {
  int port = original_source_port(fd, &what->local, &what->remote);
  if (port < 0) return failed("ask connection tracking");
  out->value = port;
  return success;
}

static failure abort_named(const act_request *what, int fd, act_reply *out) {
  connection_name name;
  memset(&name, 0, sizeof name);
  const bool is_v6 = what->local.ss_family == AF_INET6;
  const struct sockaddr_in *from4 = (const struct sockaddr_in *)&what->local, *to4 = (const struct sockaddr_in *)&what->remote;
  const struct sockaddr_in6 *from6 = (const struct sockaddr_in6 *)&what->local,
                            *to6 = (const struct sockaddr_in6 *)&what->remote;
  name.family = what->local.ss_family;
  name.local_port = is_v6 ? from6->sin6_port : from4->sin_port;
  name.remote_port = is_v6 ? to6->sin6_port : to4->sin_port;
  memcpy(&name.local, is_v6 ? (const void *)&from6->sin6_addr : (const void *)&from4->sin_addr, is_v6 ? 16 : 4);
  memcpy(&name.remote, is_v6 ? (const void *)&to6->sin6_addr : (const void *)&to4->sin_addr, is_v6 ? 16 : 4);
  memcpy(name.cookie, what->cookie, sizeof name.cookie);
  bool was_there = false;
  failure result = abort_connection(fd, &name, &was_there);
  out->value = was_there;
  return result;
}

static failure send_verdict(const act_request *what, int fd) {
  return send(fd, what->text, what->length, MSG_DONTWAIT) < 0 ? failed("give a verdict on a packet") : success;
}

static failure make_existing_transparent(int fd) {
  struct sockaddr_storage local;
  socklen_t length = sizeof local;
  if (getsockname(fd, (struct sockaddr *)&local, &length) != 0) return failed("getsockname");
  return set_transparent(fd, local.ss_family);
}

/* In the namespace that is meant. `given`: the descriptors without the namespace. `out_fd`: what is made is one, or none. */
static failure perform_here(const act_request *what, const int *given, size_t count, act_reply *out, int *out_fd) {
  static const uint8_t wanted[ACT_COUNT] = {[ACT_MAKE_TRANSPARENT] = 1, [ACT_ASK_CONNTRACK] = 1, [ACT_ABORT_CONNECTION] = 1,
                                            [ACT_SEND_VERDICT] = 1,     [ACT_NETNS_OF_SOCKET] = 1};
  if (what->act >= ACT_COUNT || count != wanted[what->act]) return (failure){"read a request", EINVAL};
  bool is_gone = false;
  tables_found tables = NO_TABLES;
  uint64_t inode = 0;
  size_t length = 0;
  failure result = success;
  switch ((act)what->act) {
    case ACT_PING:
      return success;
    case ACT_LISTEN:
      return make_listener(what, out_fd);
    case ACT_MAKE_TRANSPARENT:
      return make_existing_transparent(given[0]);
    case ACT_OPEN_CONNTRACK:
      *out_fd = open_conntrack();
      return *out_fd < 0 ? failed("create a netlink socket") : success;
    case ACT_ASK_CONNTRACK:
      return ask_conntrack(what, given[0], out);
    case ACT_OPEN_SOCK_DIAG:
      return open_sock_diag(out_fd);
    case ACT_ABORT_CONNECTION:
      return abort_named(what, given[0], out);
    case ACT_OPEN_QUEUE:
      return open_syn_queue(what->port, what->max_length, out_fd);
    case ACT_SEND_VERDICT:
      return send_verdict(what, given[0]);
    case ACT_WATCH:
      return open_watch(what->is_of_netfilter, out_fd);
    case ACT_WATCH_CONNECTIONS:
      return open_connection_watch(out_fd);
    case ACT_DELETE_EMPTY_TABLE:
      result = delete_empty_table(what->is_ipv6 ? NFPROTO_IPV6 : NFPROTO_IPV4, what->text, &is_gone);
      out->value = is_gone;
      return result;
    case ACT_FIND_TABLES:
      result = find_tables(&tables);
      out->value = tables;
      return result;
    case ACT_READ_FILE:
      result = read_proc_file(what->text, out->text, sizeof out->text, &length);
      out->length = (uint32_t)length;
      return result;
    case ACT_OPEN_NETNS:
      return open_netns_file(what->text, out_fd);
    case ACT_NETNS_OF_SOCKET:
      result = netns_of_socket(given[0], &inode);
      out->value = (int64_t)inode;
      return result;
    case ACT_MAY_CHANGE_EARLY_DEMUX:
      out->value = access(EARLY_DEMUX, W_OK) == 0;
      return success;
    case ACT_DIAL:
    case ACT_RUN_PROGRAM:
    case ACT_COUNT:
      break;
  }
  return (failure){"read a request", EINVAL};
}

failure perform(const act_request *what, const int *fds, size_t count, int *own_netns, act_reply *out, made_fds *made) {
  int one = -1;
  memset(out, 0, REPLY_HEAD);
  made->count = 0;
  if (what->has_netns && count == 0) return (failure){"read a request", EINVAL};
  const size_t skipped = what->has_netns ? 1 : 0;
  if (what->has_netns) {
    failure result = enter(fds[0], own_netns);
    if (result.step != NULL) return result;
  }
  failure result = what->act == ACT_DIAL && count == skipped
                       ? make_dials(what, made)
                       : perform_here(what, fds + skipped, count - skipped, out, &one);
  if (what->has_netns) leave(*own_netns);
  if (result.step != NULL && one >= 0) close(one);
  else if (one >= 0) made->fds[made->count++] = one;
  return result;
}
