#include "watch-connections.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

/* Of agent/ports.ts: the ports to which connections are redirected that a client dialled elsewhere. */
#define OUTBOUND_PORT 15001
#define INBOUND_PLAINTEXT_PORT 15006

static failure failed(const char *step) { return (failure){step, errno}; }
static const failure success = {NULL, 0};

/*
 * Passes what the kernel says of a new TCP connection whose answers come from one of these ports, where the kernel writes it: the
 * original tuple, then that of answers (ctnetlink_conntrack_event). What is written in another way is dropped.
 */
static const struct sock_filter redirected[] = {
    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 16),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET, 0, 4),
    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 104),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 0, 8),
    BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 112),
    BPF_STMT(BPF_JMP | BPF_JA, 4),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 0, 5),
    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 152),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 0, 3),
    BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 160),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OUTBOUND_PORT, 2, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, INBOUND_PLAINTEXT_PORT, 1, 0),
    BPF_STMT(BPF_RET | BPF_K, 0),
    BPF_STMT(BPF_RET | BPF_K, 0xffff),
};

failure open_connection_watch(int *fd) {
  const struct sock_fprog filter = {sizeof redirected / sizeof redirected[0], (struct sock_filter *)redirected};
  const struct sockaddr_nl any = {.nl_family = AF_NETLINK};
  const int locked = 1, group = NFNLGRP_CONNTRACK_NEW;
  *fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);
  if (*fd < 0) return failed("create a netlink socket");
  /* A process without capabilities cannot change it, so it sees no other connection. */
  if (setsockopt(*fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) != 0 ||
      setsockopt(*fd, SOL_SOCKET, SO_LOCK_FILTER, &locked, sizeof locked) != 0)
    return failed("filter a netlink socket");
  if (bind(*fd, (const struct sockaddr *)&any, sizeof any) != 0) return failed("bind a netlink socket");
  return setsockopt(*fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) == 0
             ? success
             : failed("join a netlink multicast group");
}
