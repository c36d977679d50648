/*
 * A redirect gives two connections of one client port, to different destinations, the same destination: the agent. So the
 * kernel changes the port of the second one, and only connection tracking knows the client's own. The kernel answers a
 * question (linux/netfilter/nfnetlink_conntrack.h) before sendto returns, so nothing here waits.
 */
#include "conntrack.h"

#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "attributes.h"

typedef struct {
  struct nlmsghdr header;
  struct nfgenmsg family;
  char attributes[128];
} question;

/* One side of a connection: bytes of the address in network order, and their number. */
typedef struct {
  const void *address;
  uint16_t length;
  in_port_t port;
} endpoint;

static endpoint endpoint_of(const struct sockaddr_storage *from, bool is_v4) {
  if (from->ss_family == AF_INET) {
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)from;
    return (endpoint){&v4->sin_addr, 4, v4->sin_port};
  }
  const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)from;
  return is_v4 ? (endpoint){v6->sin6_addr.s6_addr + 12, 4, v6->sin6_port} : (endpoint){&v6->sin6_addr, 16, v6->sin6_port};
}

static bool is_ipv4(const struct sockaddr_storage *from) {
  return from->ss_family == AF_INET || IN6_IS_ADDR_V4MAPPED(&((const struct sockaddr_in6 *)from)->sin6_addr);
}

static struct nlattr *begin_nest(question *ask, uint16_t type) {
  struct nlattr *nest = (struct nlattr *)((char *)ask + NLMSG_ALIGN(ask->header.nlmsg_len));
  nest->nla_type = type | NLA_F_NESTED;
  ask->header.nlmsg_len = (uint32_t)((char *)nest - (char *)ask) + NLA_HDRLEN;
  return nest;
}

static void end_nest(question *ask, struct nlattr *nest) {
  nest->nla_len = (uint16_t)((char *)ask + ask->header.nlmsg_len - (char *)nest);
}

static void put(question *ask, uint16_t type, const void *data, uint16_t length) {
  struct nlattr *attribute = (struct nlattr *)((char *)ask + NLMSG_ALIGN(ask->header.nlmsg_len));
  attribute->nla_type = type;
  attribute->nla_len = (uint16_t)(NLA_HDRLEN + length);
  memcpy((char *)attribute + NLA_HDRLEN, data, length);
  ask->header.nlmsg_len = (uint32_t)((char *)attribute - (char *)ask) + NLA_ALIGN(attribute->nla_len);
}

int open_conntrack(void) { return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER); }

/* The entry whose replies go from our socket to the client. */
static int ask_for_entry(int fd, uint32_t sequence, const struct sockaddr_storage *local,
                         const struct sockaddr_storage *peer) {
  const bool is_v4 = is_ipv4(peer);
  const endpoint from = endpoint_of(local, is_v4), to = endpoint_of(peer, is_v4);
  const uint8_t tcp = IPPROTO_TCP;
  question ask = {
      .header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct nfgenmsg)),
                 .nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET,
                 .nlmsg_flags = NLM_F_REQUEST,
                 .nlmsg_seq = sequence},
      .family = {.nfgen_family = is_v4 ? AF_INET : AF_INET6, .version = NFNETLINK_V0},
  };
  struct nlattr *tuple = begin_nest(&ask, CTA_TUPLE_REPLY);
  struct nlattr *addresses = begin_nest(&ask, CTA_TUPLE_IP);
  put(&ask, is_v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, from.address, from.length);
  put(&ask, is_v4 ? CTA_IP_V4_DST : CTA_IP_V6_DST, to.address, to.length);
  end_nest(&ask, addresses);
  struct nlattr *protocol = begin_nest(&ask, CTA_TUPLE_PROTO);
  put(&ask, CTA_PROTO_NUM, &tcp, sizeof tcp);
  put(&ask, CTA_PROTO_SRC_PORT, &from.port, sizeof from.port);
  put(&ask, CTA_PROTO_DST_PORT, &to.port, sizeof to.port);
  end_nest(&ask, protocol);
  end_nest(&ask, tuple);
  const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
  return sendto(fd, &ask, ask.header.nlmsg_len, 0, (const struct sockaddr *)&kernel, sizeof kernel) < 0 ? -1 : 0;
}

int original_source_port(int conntrack_fd, const struct sockaddr_storage *local, const struct sockaddr_storage *peer) {
  static _Thread_local uint32_t sequence = 0;
  sequence += 1;
  if (ask_for_entry(conntrack_fd, sequence, local, peer) != 0) return -1;
  _Alignas(struct nlmsghdr) char buffer[2048];
  const struct nlmsghdr *answer = (const struct nlmsghdr *)buffer;
  ssize_t length;
  do {
    length = recv(conntrack_fd, buffer, sizeof buffer, 0);
    if (length < 0) return -1;
    if (!NLMSG_OK(answer, (size_t)length)) return 0;
    /* Not the answer to an earlier question, whose reading failed. */
  } while (answer->nlmsg_seq != sequence);
  if (answer->nlmsg_type == NLMSG_ERROR) {
    errno = -((const struct nlmsgerr *)NLMSG_DATA(answer))->error;
    return errno == ENOENT ? 0 : -1;
  }
  const size_t start = NLMSG_LENGTH(sizeof(struct nfgenmsg));
  if (answer->nlmsg_len < start) return 0;
  const struct nlattr *original = find_attribute(buffer + NLMSG_ALIGN(start), answer->nlmsg_len - NLMSG_ALIGN(start), CTA_TUPLE_ORIG);
  const struct nlattr *port = find_within(find_within(original, CTA_TUPLE_PROTO), CTA_PROTO_SRC_PORT);
  if (port == NULL || port->nla_len < NLA_HDRLEN + sizeof(in_port_t)) return 0;
  in_port_t found;
  memcpy(&found, (const char *)port + NLA_HDRLEN, sizeof found);
  return found;
}

int is_tracked(int conntrack_fd, const struct sockaddr_storage *server, const struct sockaddr_storage *client) {
  int port = original_source_port(conntrack_fd, server, client);
  return port <= 0 ? port : 1;
}
