#define _GNU_SOURCE
#include "nf-tables.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static failure failed(const char *step) { return (failure){step, errno}; }
static const failure success = {NULL, 0};

/* A change is a batch: what is between begin and end happens whole or not at all. */
typedef struct {
  _Alignas(struct nlmsghdr) char bytes[512];
  size_t length;
} batch;

static struct nlmsghdr *add_message(batch *to, int type, int flags, int family, uint16_t resource) {
  struct nlmsghdr *header = (struct nlmsghdr *)(to->bytes + to->length);
  header->nlmsg_len = NLMSG_LENGTH(sizeof(struct nfgenmsg));
  header->nlmsg_type = (uint16_t)type;
  header->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
  struct nfgenmsg *body = NLMSG_DATA(header);
  body->nfgen_family = (uint8_t)family;
  body->version = NFNETLINK_V0;
  body->res_id = htons(resource);
  to->length += NLMSG_ALIGN(header->nlmsg_len);
  return header;
}

static void add_text(batch *to, struct nlmsghdr *message, int type, const char *text) {
  struct nlattr *attribute = (struct nlattr *)(to->bytes + to->length);
  size_t size = strlen(text) + 1;
  attribute->nla_type = (uint16_t)type;
  attribute->nla_len = (uint16_t)(NLA_HDRLEN + size);
  memcpy((char *)attribute + NLA_HDRLEN, text, size);
  message->nlmsg_len += NLA_ALIGN(attribute->nla_len);
  to->length += NLA_ALIGN(attribute->nla_len);
}

/* The kernel answers within the call of send(), so nothing here waits. 0, or the first error of the batch. */
static failure exchange(const batch *what, int *error) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
  if (fd < 0) return failed("create a netfilter socket");
  _Alignas(struct nlmsghdr) char answer[4096];
  ssize_t length;
  *error = 0;
  failure result = send(fd, what->bytes, what->length, 0) < 0 ? failed("send to nftables") : success;
  while (result.step == NULL && *error == 0 && (length = recv(fd, answer, sizeof answer, MSG_DONTWAIT)) > 0) {
    size_t left = (size_t)length;
    for (struct nlmsghdr *each = (struct nlmsghdr *)answer; NLMSG_OK(each, left) && *error == 0;
         each = NLMSG_NEXT(each, left)) {
      if (each->nlmsg_type == NLMSG_ERROR) *error = -((const struct nlmsgerr *)NLMSG_DATA(each))->error;
    }
  }
  close(fd);
  return result;
}

failure delete_empty_table(int family, const char *name, bool *is_gone) {
  *is_gone = false;
  if (strlen(name) >= NFT_TABLE_MAXNAMELEN) return (failure){"name a table", ENAMETOOLONG};
  batch what;
  memset(&what, 0, sizeof what);
  add_message(&what, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
  /* NLM_F_NONREC: a table with chains is not deleted with them, but refused. */
  struct nlmsghdr *deletion =
      add_message(&what, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELTABLE, NLM_F_ACK | NLM_F_NONREC, family, 0);
  add_text(&what, deletion, NFTA_TABLE_NAME, name);
  add_message(&what, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
  int error;
  failure result = exchange(&what, &error);
  if (result.step != NULL) return result;
  *is_gone = error == 0 || error == ENOENT;
  return *is_gone || error == EBUSY ? success : (failure){"delete a table of nftables", error};
}

/* Whether iptables can have made it: of one of its families, with one of its names. */
static bool is_of_iptables(const struct nlmsghdr *table) {
  static const char *const names[] = {"raw", "mangle", "filter", "nat", "security"};
  const struct nfgenmsg *body = NLMSG_DATA(table);
  if (body->nfgen_family != NFPROTO_IPV4 && body->nfgen_family != NFPROTO_IPV6) return false;
  const char *from = (const char *)body + NLMSG_ALIGN(sizeof *body), *end = (const char *)table + table->nlmsg_len;
  while (end - from >= (ptrdiff_t)NLA_HDRLEN) {
    const struct nlattr *attribute = (const struct nlattr *)from;
    if (attribute->nla_len < NLA_HDRLEN || attribute->nla_len > end - from) return false;
    if (attribute->nla_type == NFTA_TABLE_NAME) {
      for (size_t at = 0; at < sizeof names / sizeof names[0]; at++) {
        const size_t size = strlen(names[at]) + 1;
        if (attribute->nla_len == NLA_HDRLEN + size && memcmp(from + NLA_HDRLEN, names[at], size) == 0) return true;
      }
      return false;
    }
    from += NLA_ALIGN(attribute->nla_len);
  }
  return false;
}

/* The kernel makes each part of the list within the call of recv(). */
failure find_tables(tables_found *found) {
  *found = NO_TABLES;
  batch what;
  memset(&what, 0, sizeof what);
  add_message(&what, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE, NLM_F_DUMP, AF_UNSPEC, 0);
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
  if (fd < 0) return failed("create a netfilter socket");
  _Alignas(struct nlmsghdr) char answer[16384];
  failure result = send(fd, what.bytes, what.length, 0) < 0 ? failed("send to nftables") : success;
  for (bool is_done = false; result.step == NULL && !is_done;) {
    const ssize_t length = recv(fd, answer, sizeof answer, MSG_DONTWAIT);
    if (length < 0) result = failed("list the tables of nftables");
    size_t left = length < 0 ? 0 : (size_t)length;
    for (struct nlmsghdr *each = (struct nlmsghdr *)answer; NLMSG_OK(each, left) && !is_done; each = NLMSG_NEXT(each, left)) {
      is_done = each->nlmsg_type == NLMSG_DONE;
      const int error = each->nlmsg_type == NLMSG_ERROR ? -((const struct nlmsgerr *)NLMSG_DATA(each))->error : 0;
      if (error != 0) result = (failure){"list the tables of nftables", error};
      if (each->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE)) continue;
      if (!is_of_iptables(each)) *found = OTHER_TABLES;
      else if (*found == NO_TABLES) *found = IPTABLES_TABLES;
    }
  }
  close(fd);
  return result;
}
