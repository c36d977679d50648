#define _GNU_SOURCE
#include "tcp-life.h"

#include <errno.h>
#include <limits.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/socket.h>

/* linux/tcp.h, since 6.15. */
#ifndef TCP_RTO_MAX_MS
#define TCP_RTO_MAX_MS 44
#endif

static failure failed(const char *step) { return (failure){step, errno}; }
static const failure success = {NULL, 0};

static bool set_option(int fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof value) == 0;
}

failure keep_urgent_inline(int fd) {
  return set_option(fd, SOL_SOCKET, SO_OOBINLINE, 1) ? success : failed("set SO_OOBINLINE");
}

failure set_probing(int fd, const probing *how) {
  if (!set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, how->idle_seconds)) return failed("set TCP_KEEPIDLE");
  if (!set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, how->every_seconds)) return failed("set TCP_KEEPINTVL");
  if (!set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, how->most_probes)) return failed("set TCP_KEEPCNT");
  if (!set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1)) return failed("set SO_KEEPALIVE");
  if (how->longest_retransmit_ms == 0) return success;
  /* A kernel before 6.15 does not have it. */
  if (set_option(fd, IPPROTO_TCP, TCP_RTO_MAX_MS, how->longest_retransmit_ms) || errno == ENOPROTOOPT) return success;
  return failed("set TCP_RTO_MAX_MS");
}

/* With TCP_USER_TIMEOUT the kernel counts time in place of probes (tcp_keepalive_timer in net/ipv4/tcp_timer.c). */
failure outlast_silence(int fd, bool is_on) {
  return set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, is_on ? INT_MAX : 0) ? success : failed("set TCP_USER_TIMEOUT");
}

failure read_condition(int fd, tcp_condition *out) {
  struct tcp_info found;
  socklen_t length = sizeof found;
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &found, &length) != 0) return failed("read TCP_INFO");
  out->state = found.tcpi_state;
  out->unanswered_probes = found.tcpi_probes;
  out->ms_since_sent = found.tcpi_last_data_sent;
  out->ms_since_received = found.tcpi_last_data_recv;
  out->ms_since_acknowledgement = found.tcpi_last_ack_recv;
  out->unacknowledged = found.tcpi_unacked;
  return success;
}

/* Offset and bit in the TCP header (RFC 9293, section 3.1), at which the filter of a TCP socket begins. */
#define FLAGS_OFFSET 13
#define FLAG_RST 0x04

failure set_deaf(int fd, bool is_deaf) {
  static struct sock_filter only_resets[] = {
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, FLAGS_OFFSET),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, FLAG_RST, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  static const struct sock_fprog program = {sizeof only_resets / sizeof only_resets[0], only_resets};
  static const int unused = 0;
  bool ok = is_deaf ? setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0
                    : setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused) == 0 || errno == ENOENT;
  return ok ? success : failed("set or remove a filter of a socket");
}
