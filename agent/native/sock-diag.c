#define _GNU_SOURCE
#include "sock-diag.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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
  request what;
  memset(&what, 0, sizeof what);
  what.header.nlmsg_len = sizeof what;
  what.header.nlmsg_type = (uint16_t)type;
  what.header.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
  what.body.sdiag_family = (uint8_t)name->family;
  what.body.sdiag_protocol = IPPROTO_TCP;
  what.body.idiag_states = ~0u;
  what.body.id.idiag_sport = name->local_port;
  what.body.id.idiag_dport = name->remote_port;
  memcpy(what.body.id.idiag_src, &name->local, sizeof what.body.id.idiag_src);
  memcpy(what.body.id.idiag_dst, &name->remote, sizeof what.body.id.idiag_dst);
  what.body.id.idiag_cookie[0] = INET_DIAG_NOCOOKIE;
  what.body.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  return what;
}

/* The kernel answers within the call of send(), so nothing here waits. */
static failure exchange(const request *what, void *answer, size_t size, ssize_t *length) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  if (fd < 0) return failed("create a sock_diag socket");
  failure result = success;
  if (send(fd, what, sizeof *what, 0) < 0) result = failed("send to sock_diag");
  else if ((*length = recv(fd, answer, size, MSG_DONTWAIT)) < 0) result = failed("receive from sock_diag");
  close(fd);
  return result;
}

failure ask_about_connection(const connection_name *name, connection_report *out) {
  _Alignas(struct nlmsghdr) char answer[4096];
  ssize_t length = 0;
  memset(out, 0, sizeof *out);
  request what = request_for(name, SOCK_DIAG_BY_FAMILY, 0);
  failure result = exchange(&what, answer, sizeof answer, &length);
  if (result.step != NULL) return result;
  const struct nlmsghdr *message = (const struct nlmsghdr *)answer;
  if (!NLMSG_OK(message, (size_t)length)) return (failure){"read the answer of sock_diag", EPROTO};
  if (message->nlmsg_type == NLMSG_ERROR) {
    int number = -((const struct nlmsgerr *)NLMSG_DATA(message))->error;
    return number == ENOENT || number == 0 ? success : (failure){"ask sock_diag", number};
  }
  const struct inet_diag_msg *found = NLMSG_DATA(message);
  /* Without a connection the kernel finds the listener. */
  if (found->idiag_state == STATE_LISTEN) return success;
  out->is_known = true;
  out->state = found->idiag_state;
  out->probes_in_ms = found->idiag_timer == TIMER_KEEPALIVE ? (int64_t)found->idiag_expires : -1;
  memcpy(out->cookie, found->id.idiag_cookie, sizeof out->cookie);
  return success;
}

failure abort_connection(const connection_name *name, const connection_report *found) {
  _Alignas(struct nlmsghdr) char answer[4096];
  ssize_t length = 0;
  request what = request_for(name, SOCK_DESTROY, NLM_F_ACK);
  memcpy(what.body.id.idiag_cookie, found->cookie, sizeof what.body.id.idiag_cookie);
  failure result = exchange(&what, answer, sizeof answer, &length);
  if (result.step != NULL) return result;
  const struct nlmsghdr *message = (const struct nlmsghdr *)answer;
  if (!NLMSG_OK(message, (size_t)length) || message->nlmsg_type != NLMSG_ERROR)
    return (failure){"read the answer of sock_diag", EPROTO};
  int number = -((const struct nlmsgerr *)NLMSG_DATA(message))->error;
  return number == 0 || number == ENOENT ? success : (failure){"end a socket (SOCK_DESTROY)", number};
}
