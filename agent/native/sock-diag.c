#define _GNU_SOURCE
#include "sock-diag.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <string.h>
#include <sys/socket.h>

/* include/net/tcp_states.h */
#define STATE_LISTEN 10
/* What `idiag_timer` says while a keepalive probe is due. */
#define TIMER_KEEPALIVE 2

static failure failed(const char *step) { return (failure){step, errno}; }
static const failure success = {NULL, 0};

typedef struct {
  struct nlmsghdr header;
  struct inet_diag_req_v2 body;
} request;

static request request_for(const connection_name *name, int type, int flags) {
  /* Questions of one thread; the threads have sockets of their own. */
  static _Thread_local uint32_t sequence = 0;
  request what;
  memset(&what, 0, sizeof what);
  what.header.nlmsg_len = sizeof what;
  what.header.nlmsg_type = (uint16_t)type;
  what.header.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
  what.header.nlmsg_seq = ++sequence;
  what.body.sdiag_family = (uint8_t)name->family;
  what.body.sdiag_protocol = IPPROTO_TCP;
  what.body.idiag_states = ~0u;
  what.body.id.idiag_sport = name->local_port;
  what.body.id.idiag_dport = name->remote_port;
  memcpy(what.body.id.idiag_src, &name->local, sizeof what.body.id.idiag_src);
  memcpy(what.body.id.idiag_dst, &name->remote, sizeof what.body.id.idiag_dst);
  memcpy(what.body.id.idiag_cookie, name->cookie, sizeof what.body.id.idiag_cookie);
  return what;
}

failure open_sock_diag(int *fd) {
  *fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  return *fd < 0 ? failed("create a sock_diag socket") : success;
}

/* The kernel answers within the call of send(), so nothing here waits. */
static failure exchange(int fd, const request *what, struct nlmsghdr *answer, size_t size) {
  if (send(fd, what, sizeof *what, 0) < 0) return failed("send to sock_diag");
  for (;;) {
    ssize_t length = recv(fd, answer, size, MSG_DONTWAIT);
    if (length < 0) return failed("receive from sock_diag");
    if (!NLMSG_OK(answer, (size_t)length)) return (failure){"read the answer of sock_diag", EPROTO};
    /* Not what an earlier question left behind, whose answer could not be read. */
    if (answer->nlmsg_seq == what->header.nlmsg_seq) return success;
  }
}

/* What an error message says; 0 for an acknowledgement. */
static int number_of(const struct nlmsghdr *message) { return -((const struct nlmsgerr *)NLMSG_DATA(message))->error; }

failure ask_about_connection(int fd, const connection_name *name, connection_report *out) {
  _Alignas(struct nlmsghdr) char buffer[4096];
  struct nlmsghdr *answer = (struct nlmsghdr *)buffer;
  memset(out, 0, sizeof *out);
  request what = request_for(name, SOCK_DIAG_BY_FAMILY, 0);
  failure result = exchange(fd, &what, answer, sizeof buffer);
  if (result.step != NULL) return result;
  if (answer->nlmsg_type == NLMSG_ERROR) {
    int number = number_of(answer);
    return number == ENOENT || number == 0 ? success : (failure){"ask sock_diag", number};
  }
  const struct inet_diag_msg *found = NLMSG_DATA(answer);
  /* Without a connection the kernel finds the listener. */
  if (found->idiag_state == STATE_LISTEN) return success;
  out->is_known = true;
  out->state = found->idiag_state;
  out->probes_in_ms = found->idiag_timer == TIMER_KEEPALIVE ? (int64_t)found->idiag_expires : -1;
  memcpy(out->cookie, found->id.idiag_cookie, sizeof out->cookie);
  return success;
}

failure abort_connection(int fd, const connection_name *name, bool *was_there) {
  _Alignas(struct nlmsghdr) char buffer[4096];
  struct nlmsghdr *answer = (struct nlmsghdr *)buffer;
  *was_there = false;
  request what = request_for(name, SOCK_DESTROY, NLM_F_ACK);
  failure result = exchange(fd, &what, answer, sizeof buffer);
  if (result.step != NULL) return result;
  if (answer->nlmsg_type != NLMSG_ERROR) return (failure){"read the answer of sock_diag", EPROTO};
  int number = number_of(answer);
  *was_there = number == 0;
  return number == 0 || number == ENOENT ? success : (failure){"end a socket (SOCK_DESTROY)", number};
}
