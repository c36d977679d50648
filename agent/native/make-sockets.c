#define _GNU_SOURCE
#include "make-sockets.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* From the kernel's header linux/in6.h, which does not mix with libc's. */
#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif

static failure failed(const char *step) { return (failure){step, errno}; }
static const failure success = {NULL, 0};

static socklen_t length_of(const struct sockaddr_storage *of) {
  return of->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

static int open_socket(int family) { return socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP); }

static bool set_option(int fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof value) == 0;
}

failure set_transparent(int fd, int family) {
  bool ok = family == AF_INET6 ? set_option(fd, SOL_IPV6, IPV6_TRANSPARENT, 1) : set_option(fd, SOL_IP, IP_TRANSPARENT, 1);
  return ok ? success : failed("set IP_TRANSPARENT");
}

static failure prepare_listener(int fd, const struct sockaddr_storage *at, const act_request *what) {
  /* Accepted sockets inherit it from the listener. */
  if (!set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1)) return failed("set TCP_NODELAY");
  if (!set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1)) return failed("set SO_REUSEADDR");
  if (what->is_port_shared && !set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1)) return failed("set SO_REUSEPORT");
  if (at->ss_family == AF_INET6) {
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)at;
    if (!set_option(fd, SOL_IPV6, IPV6_V6ONLY, !IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr))) return failed("set IPV6_V6ONLY");
  }
  if (what->is_transparent) {
    failure result = set_transparent(fd, at->ss_family);
    if (result.step != NULL) return result;
  }
  if (bind(fd, (const struct sockaddr *)at, length_of(at)) != 0) return failed("bind the listening socket");
  if (listen(fd, what->backlog) != 0) return failed("listen");
  return success;
}

static failure prepare_dial(int fd, const act_request *what) {
  if (!set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1)) return failed("set TCP_NODELAY");
  if (what->mark != 0 && setsockopt(fd, SOL_SOCKET, SO_MARK, &what->mark, sizeof what->mark) != 0) return failed("set SO_MARK");
  return what->is_transparent ? set_transparent(fd, what->local.ss_family) : success;
}

failure make_listener(const act_request *what, int *fd) {
  struct sockaddr_storage at = what->local;
  const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&at;
  *fd = open_socket(at.ss_family);
  if (*fd < 0 && errno == EAFNOSUPPORT && at.ss_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr)) {
    /* A kernel without IPv6: dual stack means IPv4 only. */
    const struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = v6->sin6_port};
    memset(&at, 0, sizeof at);
    memcpy(&at, &any, sizeof any);
    *fd = open_socket(AF_INET);
  }
  return *fd < 0 ? failed("create the listening socket") : prepare_listener(*fd, &at, what);
}

failure make_dials(const act_request *what, made_fds *made) {
  if (what->sockets == 0 || what->sockets > MAX_DIALS) return (failure){"make so many sockets to dial with", EINVAL};
  failure result = success;
  for (made->count = 0; made->count < what->sockets; made->count++) {
    int fd = open_socket(what->local.ss_family);
    result = fd < 0 ? failed("create the dialling socket") : prepare_dial(fd, what);
    if (result.step != NULL) {
      if (fd >= 0) close(fd);
      break;
    }
    made->fds[made->count] = fd;
  }
  return made->count == 0 ? result : success;
}
