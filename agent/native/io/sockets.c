/* TCP sockets as numbers: each function is one system call, or a few, and never waits. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "../ask.h"
#include "io.h"

/* linux/netfilter_ipv4.h and linux/netfilter_ipv6/ip6_tables.h use the same number. */
#define ORIGINAL_DST 80

#define ARGUMENTS(count) \
  int32_t in[count]; \
  io *self; \
  if (!read_integers(env, info, count, in, &self)) return integer(env, -EINVAL)
#define SOCKET_OF(handle) \
  slot *socket_of = find_slot(self, handle, SLOT_SOCKET); \
  if (socket_of == NULL) return integer(env, -EBADF)

static int32_t own(io *self, int fd) {
  const int32_t handle = make_slot(self, SLOT_SOCKET, fd);
  if (handle < 0) close(fd);
  return handle;
}

/*
 * ioAdopt(fd) -> handle. Takes over a TCP socket that the caller owns: a listener, one to dial with, or one that another
 * process passed. It becomes non-blocking and close-on-exec. On failure it stays the caller's: -ENOTSOCK, -EPROTONOSUPPORT
 * for another kind of socket, -EEXIST when this environment has it.
 */
static napi_value adopt(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  int type = 0, domain = 0, protocol = 0;
  socklen_t size = sizeof(int);
  if (in[0] < 0) return integer(env, -EBADF);
  if (getsockopt(in[0], SOL_SOCKET, SO_TYPE, &type, &size) != 0 ||
      getsockopt(in[0], SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 ||
      getsockopt(in[0], SOL_SOCKET, SO_PROTOCOL, &protocol, &size) != 0)
    return integer(env, -errno);
  if (type != SOCK_STREAM || protocol != IPPROTO_TCP || (domain != AF_INET && domain != AF_INET6))
    return integer(env, -EPROTONOSUPPORT);
  const int flags = fcntl(in[0], F_GETFL);
  if (flags < 0 || fcntl(in[0], F_SETFL, flags | O_NONBLOCK) != 0 || fcntl(in[0], F_SETFD, FD_CLOEXEC) != 0)
    return integer(env, -errno);
  return integer(env, make_slot(self, SLOT_SOCKET, in[0]));
}

/* ioRelease(handle) -> fd, which is the caller's again. TLS on it ends without a word, and what it held is lost. */
static napi_value release(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  SOCKET_OF(in[0]);
  const int fd = socket_of->fd;
  free_slot(self, socket_of);
  return integer(env, fd);
}

/* ioDescriptor(handle) -> fd, for a question about it; it stays the handle's. */
static napi_value descriptor(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  SOCKET_OF(in[0]);
  return integer(env, socket_of->fd);
}

/* ioSocket(4 | 6) -> handle of a socket with TCP_NODELAY in the namespace of the process. */
static napi_value make(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  if (in[0] != 4 && in[0] != 6) return integer(env, -EINVAL);
  const int fd = socket(in[0] == 6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP), on = 1;
  if (fd < 0) return integer(env, -errno);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return integer(env, own(self, fd));
}

/* ioListen(handle, backlog) -> 0. Begins to listen, or changes the length of the queue of one that does. */
static napi_value begin_to_listen(napi_env env, napi_callback_info info) {
  ARGUMENTS(2);
  SOCKET_OF(in[0]);
  return integer(env, listen(socket_of->fd, in[1]) == 0 ? 0 : -errno);
}

/* A port, and an address of 16 bytes (IPv4-mapped), as words. */
static void write_address(int32_t *out, const struct sockaddr_storage *from) {
  uint8_t bytes[16] = {[10] = 0xff, [11] = 0xff};
  uint16_t port;
  if (from->ss_family == AF_INET6) {
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)from;
    memcpy(bytes, &v6->sin6_addr, sizeof bytes);
    port = v6->sin6_port;
  } else {
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)from;
    memcpy(bytes + 12, &v4->sin_addr, 4);
    port = v4->sin_port;
  }
  out[0] = ntohs(port);
  memcpy(out + 1, bytes, sizeof bytes);
}

static bool is_ipv6(const struct sockaddr_storage *address) {
  return address->ss_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

/* What an accepted socket says of itself, see `accept_many`. */
static void describe(int fd, int wanted, const struct sockaddr_storage *peer, int32_t *out) {
  struct sockaddr_storage local = {0}, dialled = {0};
  socklen_t size = sizeof local;
  memset(out + 1, 0, (ACCEPTED_WORDS - 1) * sizeof *out);
  write_address(out + 2, peer);
  if (peer->ss_family == AF_INET6) out[17] = (int32_t)((const struct sockaddr_in6 *)peer)->sin6_scope_id;
  out[1] = ENODATA;
  if ((wanted & 3) == 0) return;
  if (getsockname(fd, (struct sockaddr *)&local, &size) != 0) {
    out[1] = errno;
    return;
  }
  write_address(out + 7, &local);
  if ((wanted & 2) == 0) return;
  size = sizeof dialled;
  out[1] = getsockopt(fd, is_ipv6(&local) ? SOL_IPV6 : SOL_IP, ORIGINAL_DST, &dialled, &size) == 0 ? 0 : errno;
  if (out[1] == 0) write_address(out + 12, &dialled);
  /* accept(2) has the peer's address, also of one that has gone. */
  size = sizeof local;
  out[18] = getpeername(fd, (struct sockaddr *)&local, &size) == 0 ? 0 : 1;
}

/* Errors of one connection that waited, not of the listener (accept(2)). */
static bool is_of_connection(int number) {
  return number == ECONNABORTED || number == EPROTO || number == ENETDOWN || number == ENOPROTOOPT || number == EHOSTDOWN ||
         number == ENONET || number == EHOSTUNREACH || number == ENETUNREACH || number == EINTR;
}

/*
 * ioAccept(handle, most, wanted) -> number of accepted connections, at most 64. On the desk for each: handle, errno of the
 * dialled address (0: it is there), port and address of the peer (words 2 to 6), of this side (7 to 11, with wanted 1 or
 * 2), of what was dialled before a redirect (12 to 16, with wanted 2), zone of the peer's address (17), 1 where the peer has
 * gone already (18, with wanted 2). -EAGAIN when there is none; -EMFILE and the like when the first could not be taken.
 */
static napi_value accept_many(napi_env env, napi_callback_info info) {
  ARGUMENTS(3);
  SOCKET_OF(in[0]);
  const int listener = socket_of->fd;
  int32_t *out = desk(self, ACCEPTED_AT);
  int32_t count = 0;
  if (in[1] < 1 || in[1] > MOST_ACCEPTED) return integer(env, -EINVAL);
  for (int tries = 0; count < in[1] && tries < 2 * MOST_ACCEPTED; tries++) {
    struct sockaddr_storage peer = {0};
    socklen_t size = sizeof peer;
    const int fd = accept4(listener, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && is_of_connection(errno)) continue;
    if (fd < 0) return integer(env, count > 0 ? count : -errno);
    const int32_t handle = own(self, fd);
    if (handle < 0) return integer(env, count > 0 ? count : handle);
    out[0] = handle;
    describe(fd, in[2], &peer, out);
    out += ACCEPTED_WORDS;
    count++;
  }
  return integer(env, count);
}

/*
 * ioConnect(handle, ip, port) -> 0 when connected, -EINPROGRESS when EPOLLOUT will tell, or why not. On one host the three
 * packets are often gone when connect returns, so it is asked a second time.
 */
static napi_value connect_to(napi_env env, napi_callback_info info) {
  napi_value args[3];
  size_t given = 3;
  io *self;
  int32_t handle, port;
  char text[INET6_ADDRSTRLEN + 1];
  struct sockaddr_storage to;
  size_t length;
  if (napi_get_cb_info(env, info, &given, args, NULL, (void **)&self) != napi_ok || given < 3 || !self->is_started ||
      napi_get_value_int32(env, args[0], &handle) != napi_ok || napi_get_value_int32(env, args[2], &port) != napi_ok ||
      napi_get_value_string_utf8(env, args[1], text, sizeof text, &length) != napi_ok || port < 1 || port > 65535 ||
      !parse_address(text, (uint16_t)port, &to))
    return integer(env, -EINVAL);
  SOCKET_OF(handle);
  const socklen_t size = to.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
  if (connect(socket_of->fd, (struct sockaddr *)&to, size) == 0) return integer(env, 0);
  if (errno != EINPROGRESS) return integer(env, -errno);
  if (connect(socket_of->fd, (struct sockaddr *)&to, size) == 0 || errno == EISCONN) return integer(env, 0);
  return integer(env, errno == EALREADY ? -EINPROGRESS : -errno);
}

/* ioReceive(handle, offset, length) -> bytes; 0 after the last one (or for a length of 0). */
static napi_value receive(napi_env env, napi_callback_info info) {
  ARGUMENTS(3);
  SOCKET_OF(in[0]);
  if (!is_inside(self, in[1], in[2])) return integer(env, -EFAULT);
  const ssize_t count = recv(socket_of->fd, self->memory + in[1], (size_t)in[2], 0);
  return integer(env, count < 0 ? -errno : count);
}

/* ioSend(handle, offset, length) -> bytes that the kernel took. */
static napi_value send_bytes(napi_env env, napi_callback_info info) {
  ARGUMENTS(3);
  SOCKET_OF(in[0]);
  if (!is_inside(self, in[1], in[2])) return integer(env, -EFAULT);
  const ssize_t count = send(socket_of->fd, self->memory + in[1], (size_t)in[2], MSG_NOSIGNAL);
  return integer(env, count < 0 ? -errno : count);
}

/* ioSendParts(handle, count) -> bytes that the kernel took of `count` pairs of offset and length on the desk. */
static napi_value send_parts(napi_env env, napi_callback_info info) {
  ARGUMENTS(2);
  SOCKET_OF(in[0]);
  struct iovec parts[MOST_PARTS];
  const int32_t *from = desk(self, PARTS_AT);
  uint64_t total = 0;
  if (in[1] < 0 || in[1] > MOST_PARTS) return integer(env, -EINVAL);
  for (int at = 0; at < in[1]; at++) {
    /* Read once: a view of this memory may be in another thread. */
    const int32_t offset = from[2 * at], length = from[2 * at + 1];
    if (!is_inside(self, offset, length)) return integer(env, -EFAULT);
    parts[at] = (struct iovec){self->memory + offset, (size_t)length};
    total += (uint64_t)length;
  }
  /* The result is an int32. */
  if (total > INT32_MAX) return integer(env, -EINVAL);
  const struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)in[1]};
  const ssize_t count = sendmsg(socket_of->fd, &message, MSG_NOSIGNAL);
  return integer(env, count < 0 ? -errno : count);
}

/* ioShutdown(handle) -> 0. FIN after what was sent; it still receives. */
static napi_value shut(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  SOCKET_OF(in[0]);
  return integer(env, shutdown(socket_of->fd, SHUT_WR) == 0 ? 0 : -errno);
}

/* ioClose(handle, isReset) -> 0. With 1 it sends RST, and what has not left is dropped. TLS on it ends without a word. */
static napi_value close_socket(napi_env env, napi_callback_info info) {
  ARGUMENTS(2);
  SOCKET_OF(in[0]);
  const int fd = socket_of->fd;
  const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
  if (in[1] != 0) setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  free_slot(self, socket_of);
  close(fd); /* Whatever it says, Linux has closed it. */
  return integer(env, 0);
}

/* ioSetOption(handle, which, value) -> 0. For `which` see the table; -EINVAL for another one. */
static napi_value set_socket_option(napi_env env, napi_callback_info info) {
  static const struct {
    int level, name;
  } options[] = {
      {IPPROTO_TCP, TCP_NODELAY},
      {IPPROTO_TCP, TCP_NOTSENT_LOWAT},
      {SOL_SOCKET, SO_RCVBUF},
      {SOL_SOCKET, SO_SNDBUF},
      {IPPROTO_TCP, TCP_QUICKACK},
  };
  ARGUMENTS(3);
  SOCKET_OF(in[0]);
  if (in[1] < 0 || (size_t)in[1] >= sizeof options / sizeof *options) return integer(env, -EINVAL);
  const int result = setsockopt(socket_of->fd, options[in[1]].level, options[in[1]].name, &in[2], sizeof in[2]);
  return integer(env, result == 0 ? 0 : -errno);
}

/*
 * ioAsk(handle, which) -> 0: the error that waits on the socket, which is taken (SO_ERROR); 1: bytes that were received and
 * not read; 2: bytes that were sent and not acknowledged; 3: state of the connection (include/net/tcp_states.h).
 */
static napi_value ask_socket(napi_env env, napi_callback_info info) {
  ARGUMENTS(2);
  SOCKET_OF(in[0]);
  int value = 0, result;
  struct tcp_info tcp;
  socklen_t size = sizeof value;
  switch (in[1]) {
    case 0: result = getsockopt(socket_of->fd, SOL_SOCKET, SO_ERROR, &value, &size); break;
    case 1: result = ioctl(socket_of->fd, SIOCINQ, &value); break;
    case 2: result = ioctl(socket_of->fd, SIOCOUTQ, &value); break;
    case 3:
      size = sizeof tcp;
      result = getsockopt(socket_of->fd, IPPROTO_TCP, TCP_INFO, &tcp, &size);
      value = tcp.tcpi_state;
      break;
    default: return integer(env, -EINVAL);
  }
  return integer(env, result == 0 ? value : -errno);
}

void add_io_sockets(napi_env env, napi_value exports, io *self) {
  const napi_property_descriptor functions[] = {
      FUNCTION_OF("ioAdopt", adopt, self),
      FUNCTION_OF("ioRelease", release, self),
      FUNCTION_OF("ioDescriptor", descriptor, self),
      FUNCTION_OF("ioSocket", make, self),
      FUNCTION_OF("ioListen", begin_to_listen, self),
      FUNCTION_OF("ioAccept", accept_many, self),
      FUNCTION_OF("ioConnect", connect_to, self),
      FUNCTION_OF("ioReceive", receive, self),
      FUNCTION_OF("ioSend", send_bytes, self),
      FUNCTION_OF("ioSendParts", send_parts, self),
      FUNCTION_OF("ioShutdown", shut, self),
      FUNCTION_OF("ioClose", close_socket, self),
      FUNCTION_OF("ioSetOption", set_socket_option, self),
      FUNCTION_OF("ioAsk", ask_socket, self),
  };
  ADD_FUNCTIONS(env, exports, functions);
}
