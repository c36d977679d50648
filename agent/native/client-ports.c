/*
 * From which ports clients dialled whose connections were redirected to the agent: what original_source_port() asks connection
 * tracking (conntrack.c), here from what the kernel said when it made the entry. It says that before it delivers the SYN, so
 * before the connection can be accepted. To read it takes no capability.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "ask.h"
#include "attributes.h"
#include "node-values.h"

/* The two ends of an accepted connection as answers have them, IPv4 as IPv4-mapped; ports in network order. */
typedef struct {
  struct in6_addr own, client;
  in_port_t own_port, client_port;
} answers;

/* What the caller keeps: rows of places, each row with the newest connections of those that fall there, the newest first. */
typedef struct {
  answers key;
  in_port_t dialled_from;
} place;

/* Where half as many connections wait as there are places, 2 in 5 would be lost with one place a row, and 1 in 100 with these. */
#define ROW_PLACES 16

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

static bool set_end(struct in6_addr *address, in_port_t *port, const struct sockaddr_storage *from) {
  const struct sockaddr_in *v4 = (const struct sockaddr_in *)from;
  const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)from;
  if (from->ss_family == AF_INET6) {
    *address = v6->sin6_addr;
    *port = v6->sin6_port;
  } else {
    memcpy(address, mapped_prefix, sizeof mapped_prefix);
    memcpy(address->s6_addr + 12, &v4->sin_addr, 4);
    *port = v4->sin_port;
  }
  return from->ss_family == AF_INET6 || from->ss_family == AF_INET;
}

static bool read_end(const struct nlattr *addresses, bool is_v4, uint16_t type4, uint16_t type6, struct in6_addr *out) {
  const struct nlattr *found = find_within(addresses, is_v4 ? type4 : type6);
  const size_t size = is_v4 ? 4 : 16;
  if (found == NULL || found->nla_len < NLA_HDRLEN + size) return false;
  memcpy(out, mapped_prefix, sizeof mapped_prefix);
  memcpy(out->s6_addr + 16 - size, (const char *)found + NLA_HDRLEN, size);
  return true;
}

static bool read_port(const struct nlattr *protocol, uint16_t type, in_port_t *out) {
  const struct nlattr *found = find_within(protocol, type);
  if (found == NULL || found->nla_len < NLA_HDRLEN + sizeof *out) return false;
  memcpy(out, (const char *)found + NLA_HDRLEN, sizeof *out);
  return true;
}

static bool read_new_connection(const struct nlmsghdr *message, place *out) {
  const size_t start = NLMSG_LENGTH(sizeof(struct nfgenmsg));
  if (message->nlmsg_type != (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW) || message->nlmsg_len < start) return false;
  const struct nfgenmsg *family = NLMSG_DATA(message);
  const bool is_v4 = family->nfgen_family == AF_INET;
  const char *attributes = (const char *)message + NLMSG_ALIGN(start);
  const size_t length = message->nlmsg_len - NLMSG_ALIGN(start);
  const struct nlattr *from = find_attribute(attributes, length, CTA_TUPLE_ORIG);
  const struct nlattr *back = find_attribute(attributes, length, CTA_TUPLE_REPLY);
  const struct nlattr *addresses = find_within(back, CTA_TUPLE_IP), *ports = find_within(back, CTA_TUPLE_PROTO);
  memset(out, 0, sizeof *out);
  return read_end(addresses, is_v4, CTA_IP_V4_SRC, CTA_IP_V6_SRC, &out->key.own) &&
         read_end(addresses, is_v4, CTA_IP_V4_DST, CTA_IP_V6_DST, &out->key.client) &&
         read_port(ports, CTA_PROTO_SRC_PORT, &out->key.own_port) &&
         read_port(ports, CTA_PROTO_DST_PORT, &out->key.client_port) &&
         read_port(find_within(from, CTA_TUPLE_PROTO), CTA_PROTO_SRC_PORT, &out->dialled_from);
}

/* FNV-1a. Which connections fall on one place decides only whether connection tracking is asked. */
static place *row_of(const answers *key, place *places, size_t count) {
  uint32_t hash = 2166136261u;
  for (size_t at = 0; at < sizeof *key; at++) hash = (hash ^ ((const uint8_t *)key)[at]) * 16777619u;
  return &places[hash % (count / ROW_PLACES) * ROW_PLACES];
}

static void keep(const place *found, place *places, size_t count) {
  place *row = row_of(&found->key, places, count);
  memmove(row + 1, row, (ROW_PLACES - 1) * sizeof *row);
  *row = *found;
}

/* The port, in network order; 0: there is none. The newest of several with the same ends is there now, and none is told twice. */
static in_port_t take(const answers *key, place *places, size_t count) {
  place *row = row_of(key, places, count);
  in_port_t port = 0;
  for (size_t at = 0; at < ROW_PLACES; at++) {
    if (row[at].key.client_port == 0 || memcmp(&row[at].key, key, sizeof *key) != 0) continue;
    if (port == 0) port = row[at].dialled_from;
    memset(&row[at], 0, sizeof *row);
  }
  return port;
}

/* Reads all that waits: of two connections with the same ends, one after the other, the second one is there now. */
static failure take_news(int watch, place *places, size_t count) {
  _Alignas(struct nlmsghdr) char buffer[8192];
  bool is_lost = false;
  for (;;) {
    ssize_t length = recv(watch, buffer, sizeof buffer, MSG_DONTWAIT);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0 && errno == ENOBUFS) {
      /* The kernel had no room for some. What it said before may be of connections that others have replaced. */
      is_lost = true;
      continue;
    }
    if (length < 0 && errno != EAGAIN) return failed("read of new connections");
    if (length < 0) break;
    place found;
    for (const struct nlmsghdr *message = (const struct nlmsghdr *)buffer; NLMSG_OK(message, (size_t)length);
         message = NLMSG_NEXT(message, length))
      if (read_new_connection(message, &found)) keep(&found, places, count);
  }
  if (is_lost) memset(places, 0, count * sizeof *places);
  return success;
}

/* watchConnections(netnsFd) -> fd */
static napi_value watch_connections(napi_env env, napi_callback_info info) {
  return open_in_namespace(env, info, ACT_WATCH_CONNECTIONS);
}

/* watchedPort(watchFd, places, fd) -> port that the client of an accepted connection dialled from; 0: not known */
static napi_value watched_port(napi_env env, napi_callback_info info) {
  napi_value args[3], result;
  int32_t watch, fd;
  void *memory;
  size_t size;
  if (!read_arguments(env, info, 3, args) || !read_int(env, args[0], &watch) || !read_int(env, args[2], &fd)) return NULL;
  if (napi_get_buffer_info(env, args[1], &memory, &size) != napi_ok || size < ROW_PLACES * sizeof(place)) {
    napi_throw_type_error(env, NULL, "culvert.node: expected a buffer");
    return NULL;
  }
  act_request ends;
  answers key;
  memset(&key, 0, sizeof key);
  const size_t count = size / sizeof(place);
  failure outcome = read_ends(fd, &ends);
  if (outcome.step == NULL) outcome = take_news(watch, memory, count);
  if (outcome.step != NULL) return throw_failure(env, outcome);
  in_port_t port = 0;
  if (set_end(&key.own, &key.own_port, &ends.local) && set_end(&key.client, &key.client_port, &ends.remote))
    port = take(&key, memory, count);
  napi_create_uint32(env, ntohs(port), &result);
  return result;
}

void add_client_ports(napi_env env, napi_value exports) {
  const napi_property_descriptor functions[] = {
      FUNCTION("watchConnections", watch_connections),
      FUNCTION("watchedPort", watched_port),
  };
  ADD_FUNCTIONS(env, exports, functions);
}
