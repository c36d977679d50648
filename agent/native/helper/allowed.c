#define _GNU_SOURCE
#include "allowed.h"

#include <ctype.h>
#include <linux/netlink.h>
#include <string.h>

#include "../namespace-questions.h"
#include "../sock-diag.h"
#include "namespace-paths.h"

/* agent/ports.ts has what they are for. */
static const uint16_t workload_ports[] = {15001, 15002, 15006, 15008};
#define PROBES_PORT 15004
#define QUEUE_NUMBER 15002
#define MOST_QUEUED 65536
#define OWN_MARK 0x539
/* NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_VERDICT */
#define VERDICT_MESSAGE 0x301

/* How many descriptors a request has, without that of the namespace. */
static const uint8_t wanted[ACT_COUNT] = {[ACT_MAKE_TRANSPARENT] = 1, [ACT_ASK_CONNTRACK] = 1,   [ACT_ABORT_CONNECTION] = 1,
                                          [ACT_SEND_VERDICT] = 1,     [ACT_NETNS_OF_SOCKET] = 1, [ACT_RUN_PROGRAM] = 4};

static uint16_t port_of(const struct sockaddr_storage *at) {
  return ntohs(at->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)at)->sin6_port
                                         : ((const struct sockaddr_in *)at)->sin_port);
}

static bool is_ip(const struct sockaddr_storage *at) { return at->ss_family == AF_INET || at->ss_family == AF_INET6; }

static bool is_one_of(uint16_t port, const uint16_t *ports, size_t count) {
  for (size_t at = 0; at < count; at++)
    if (ports[at] == port) return true;
  return false;
}

/* A NUL ends the text, and only that. */
static bool has_text(const act_request *what) {
  return what->length > 1 && what->length <= sizeof what->text && strnlen(what->text, what->length) == what->length - 1;
}

static bool is_socket(int fd, int domain, int protocol) {
  int found_domain = -1, found_protocol = -1;
  socklen_t size = sizeof(int);
  return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &found_domain, &size) == 0 && found_domain == domain &&
         getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &found_protocol, &size) == 0 && found_protocol == protocol;
}

static bool is_tcp(int fd) { return is_socket(fd, AF_INET, IPPROTO_TCP) || is_socket(fd, AF_INET6, IPPROTO_TCP); }

/* Of the namespace in which the helper is, or of one that cannot be found. */
static bool is_of_host(int fd, const helper_limits *limits) {
  uint64_t inode = 0;
  return netns_of_socket(fd, &inode).step != NULL || inode == limits->own_inode;
}

/* A socket of the host that is transparent has any address; only the agent's listener for probes is one. */
static bool is_probes_listener(int fd) {
  struct sockaddr_storage local;
  socklen_t size = sizeof local;
  int listens = 0;
  socklen_t length = sizeof listens;
  return getsockname(fd, (struct sockaddr *)&local, &size) == 0 && is_ip(&local) && port_of(&local) == PROBES_PORT &&
         getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) == 0 && listens != 0;
}

/* Files of a namespace's network: a name of letters, digits and "_" below one of two directories, or of a directory there. */
static bool is_readable_path(const char *path) {
  static const char *const roots[] = {"/proc/thread-self/net/", "/proc/sys/net/"};
  for (size_t at = 0; at < sizeof roots / sizeof roots[0]; at++) {
    const size_t skipped = strlen(roots[at]);
    if (strncmp(path, roots[at], skipped) != 0) continue;
    const char *rest = path + skipped;
    if (*rest == '\0' || *rest == '/' || strstr(rest, "//") != NULL) return false;
    for (; *rest != '\0'; rest++)
      if (!isalnum((unsigned char)*rest) && *rest != '_' && *rest != '/') return false;
    return true;
  }
  return false;
}

static bool is_token(const act_request *what, const helper_limits *limits) {
  return limits->token_file[0] != '\0' && strcmp(what->text, limits->token_file) == 0;
}

static bool is_table(const char *name) {
  static const char *const tables[] = {"raw", "mangle", "filter", "nat"};
  for (size_t at = 0; at < sizeof tables / sizeof tables[0]; at++)
    if (strcmp(name, tables[at]) == 0) return true;
  return false;
}

static bool is_verdict(const act_request *what) {
  struct nlmsghdr header;
  uint16_t queue;
  if (what->length < NLMSG_HDRLEN + 4 || what->length > sizeof what->text) return false;
  memcpy(&header, what->text, sizeof header);
  memcpy(&queue, what->text + NLMSG_HDRLEN + 2, sizeof queue);
  return header.nlmsg_len == what->length && header.nlmsg_type == VERDICT_MESSAGE && header.nlmsg_flags == NLM_F_REQUEST &&
         ntohs(queue) == QUEUE_NUMBER;
}

static const char *listener_refusal(const act_request *what, bool is_host) {
  const uint16_t port = port_of(&what->local);
  if (!is_ip(&what->local)) return "a listener without an IP address";
  const bool is_known = is_host ? port == PROBES_PORT
                                : is_one_of(port, workload_ports, sizeof workload_ports / sizeof workload_ports[0]);
  return is_known ? NULL : "a listener on a port that is not the agent's";
}

static const char *dial_refusal(const act_request *what, bool is_host) {
  if (!is_ip(&what->local)) return "a dial of another family than IP";
  if (what->sockets == 0 || what->sockets > MAX_DIALS) return "another number of sockets to dial with";
  if (what->mark != 0 && what->mark != OWN_MARK) return "a dial with a mark that is not the agent's";
  if (is_host && what->is_transparent) return "a dial from a borrowed address in the host's namespace";
  return NULL;
}

const char *refusal_of(const act_request *what, const int *fds, size_t count, const helper_limits *limits) {
  uint64_t inode = limits->own_inode;
  if (what->act >= ACT_COUNT) return "what it does not know";
  if (count != wanted[what->act] + (what->has_netns ? 1u : 0u)) return "descriptors that are not of the request";
  if (what->has_netns && !is_netns(fds[0], &inode)) return "what is no network namespace";
  const bool is_host = inode == limits->own_inode;
  const int *given = fds + (what->has_netns ? 1 : 0);
  switch ((act)what->act) {
    case ACT_PING:
    case ACT_OPEN_CONNTRACK:
    case ACT_OPEN_SOCK_DIAG:
    case ACT_WATCH:
    case ACT_FIND_TABLES:
    case ACT_MAY_CHANGE_EARLY_DEMUX:
    /* Its payload is judged when it is copied (run-program.c). */
    case ACT_RUN_PROGRAM:
      return NULL;
    case ACT_LISTEN:
      return listener_refusal(what, is_host);
    case ACT_WATCH_CONNECTIONS:
      return is_host ? "to watch connections of the host" : NULL;
    case ACT_DIAL:
      return dial_refusal(what, is_host);
    case ACT_MAKE_TRANSPARENT:
      if (!is_tcp(given[0])) return "what is no TCP socket";
      return !is_of_host(given[0], limits) || is_probes_listener(given[0]) ? NULL : "to make a socket of the host transparent";
    case ACT_NETNS_OF_SOCKET:
      return is_tcp(given[0]) ? NULL : "what is no TCP socket";
    case ACT_ASK_CONNTRACK:
      if (!is_socket(given[0], AF_NETLINK, NETLINK_NETFILTER)) return "what is no netfilter socket";
      return is_ip(&what->local) && is_ip(&what->remote) ? NULL : "a connection without IP addresses";
    case ACT_ABORT_CONNECTION:
      if (!is_socket(given[0], AF_NETLINK, NETLINK_SOCK_DIAG)) return "what is no sock_diag socket";
      if (is_of_host(given[0], limits)) return "to end a connection of the host";
      if (!is_ip(&what->local) || what->local.ss_family != what->remote.ss_family) return "a connection of two families";
      return what->cookie[0] == ANY_COOKIE && what->cookie[1] == ANY_COOKIE ? "to end a socket without its cookie" : NULL;
    case ACT_OPEN_QUEUE:
      return is_host || what->port != QUEUE_NUMBER || what->max_length > MOST_QUEUED ? "a queue that is not the agent's" : NULL;
    case ACT_SEND_VERDICT:
      if (!is_socket(given[0], AF_NETLINK, NETLINK_NETFILTER)) return "what is no netfilter socket";
      if (is_of_host(given[0], limits)) return "a verdict on a packet of the host";
      return is_verdict(what) ? NULL : "a message that is no verdict of the agent's queue";
    case ACT_DELETE_EMPTY_TABLE:
      return has_text(what) && is_table(what->text) ? NULL : "a table that is not one of iptables";
    case ACT_READ_FILE:
      return has_text(what) && (is_readable_path(what->text) || is_token(what, limits))
                 ? NULL
                 : "a file that is not of a namespace's network";
    case ACT_OPEN_NETNS:
      return has_text(what) && is_namespace_path(what->text) ? NULL : "a path where no namespace is";
    case ACT_COUNT:
      break;
  }
  return "what it does not know";
}
