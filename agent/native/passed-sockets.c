/*
 * Listening sockets that outlive the process that opened them: unix(7) sockets pass them to another process
 * (SCM_RIGHTS), and sd_notify(3) to systemd. A socket itself says in which namespace and on which address it listens, so
 * nothing needs to be passed about it.
 *
 * Sending and taking block for a bounded time. Both happen once in the life of a process, with some hundred bytes.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "ask.h"
#include "descriptor-message.h"
#include "node-values.h"

/* The kernel takes at most 253 (SCM_MAX_FD) in one message. */
#define FDS_PER_MESSAGE 64
#define MAX_FDS 65536
#define MAX_TEXT 4096
#define SEND_TIMEOUT_MS 2000

typedef DESCRIPTOR_BLOCK(FDS_PER_MESSAGE) control_block;

/* Descriptors, and the text that comes with them. */
typedef struct {
  int *fds;
  size_t count;
  char text[MAX_TEXT + 1];
  size_t length;
} parcel;

/* `@name` is an address of the abstract name space, as in $NOTIFY_SOCKET. */
static bool unix_address(const char *path, struct sockaddr_un *out, socklen_t *length) {
  size_t size = strlen(path);
  if (size == 0 || size >= sizeof out->sun_path) {
    errno = ENAMETOOLONG;
    return false;
  }
  memset(out, 0, sizeof *out);
  out->sun_family = AF_UNIX;
  memcpy(out->sun_path, path, size);
  if (path[0] == '@') out->sun_path[0] = '\0';
  *length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size + (path[0] == '@' ? 0 : 1));
  return true;
}

/* One message; waits for room in the peer's buffer for a bounded time. */
static failure send_message(int fd, struct msghdr *message) {
  for (;;) {
    if (sendmsg(fd, message, MSG_NOSIGNAL) >= 0) return success;
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return failed("pass sockets");
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    int ready = poll(&wait, 1, SEND_TIMEOUT_MS);
    if (ready == 0) errno = ETIMEDOUT;
    if (ready == 0 || (ready < 0 && errno != EINTR)) return failed("wait for the process that takes the sockets");
  }
}

static failure send_parcel(int fd, const char *text, size_t length, const int *fds, size_t count) {
  control_block control;
  struct iovec bytes = {.iov_base = (char *)text, .iov_len = length};
  struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};
  attach_descriptors(&message, &control, fds, count);
  return send_message(fd, &message);
}

static void close_all(const int *fds, size_t count) {
  for (size_t at = 0; at < count; at++) close(fds[at]);
}

static failure keep_descriptors(struct msghdr *message, parcel *out) {
  for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL; header = CMSG_NXTHDR(message, header)) {
    const size_t count = descriptors_in(header);
    if (count == 0) continue;
    int *grown = out->count + count > MAX_FDS ? NULL : realloc(out->fds, (out->count + count) * sizeof(int));
    if (grown == NULL) {
      close_all((const int *)CMSG_DATA(header), count);
      errno = ENOMEM;
      return failed("keep the sockets");
    }
    out->fds = grown;
    memcpy(out->fds + out->count, CMSG_DATA(header), count * sizeof(int));
    out->count += count;
  }
  if (message->msg_flags & MSG_CTRUNC) {
    errno = EMFILE;
    return failed("take all sockets");
  }
  return success;
}

/* Reads up to the end of a line. */
static failure receive_parcel(int fd, parcel *out) {
  while (out->length == 0 || out->text[out->length - 1] != '\n') {
    if (out->length == MAX_TEXT) {
      errno = EMSGSIZE;
      return failed("read the answer");
    }
    control_block control;
    struct iovec bytes = {.iov_base = out->text + out->length, .iov_len = MAX_TEXT - out->length};
    struct msghdr message = {
        .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t count = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    if (count < 0 && errno == EINTR) continue;
    if (count == 0) errno = ECONNRESET;
    if (count <= 0) return failed("read the answer");
    out->length += (size_t)count;
    failure result = keep_descriptors(&message, out);
    if (result.step != NULL) return result;
  }
  return success;
}

static failure ask_for_parcel(const char *path, const char *request, int timeout_ms, int *fd, parcel *out) {
  struct sockaddr_un address;
  socklen_t length;
  if (!unix_address(path, &address, &length)) return failed("use this path for a socket");
  *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (*fd < 0) return failed("create a socket");
  const struct timeval timeout = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
  if (setsockopt(*fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) != 0 ||
      setsockopt(*fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) != 0)
    return failed("set a timeout");
  if (connect(*fd, (const struct sockaddr *)&address, length) != 0) return failed("connect to the running process");
  if (send(*fd, request, strlen(request), MSG_NOSIGNAL) < 0) return failed("ask the running process");
  return receive_parcel(*fd, out);
}

/* Reads the array `value` of descriptors; false, with a pending exception, if it is no array or too long. */
static bool read_fds(napi_env env, napi_value value, int **out, uint32_t *count) {
  *out = NULL;
  if (napi_get_array_length(env, value, count) != napi_ok || *count > MAX_FDS) {
    napi_throw_type_error(env, NULL, "culvert.node: expected an array of descriptors");
    return false;
  }
  int *fds = calloc(*count == 0 ? 1 : *count, sizeof(int));
  if (fds == NULL) {
    throw_failure(env, (failure){"allocate memory", ENOMEM});
    return false;
  }
  for (uint32_t at = 0; at < *count; at++) {
    napi_value element;
    if (napi_get_element(env, value, at, &element) != napi_ok || !read_int(env, element, &fds[at])) {
      free(fds);
      return false;
    }
  }
  *out = fds;
  return true;
}

/* passSockets(connection, fds, text that ends with a line feed) */
static napi_value pass_sockets(napi_env env, napi_callback_info info) {
  napi_value args[3];
  int32_t connection;
  uint32_t count;
  int *fds;
  char text[MAX_TEXT + 1];
  if (!read_arguments(env, info, 3, args) || !read_int(env, args[0], &connection) ||
      !read_text(env, args[2], text, sizeof text) || !read_fds(env, args[1], &fds, &count))
    return NULL;
  failure result = success;
  /* A message needs a byte: a space, which means nothing before the text. */
  for (uint32_t at = 0; at < count && result.step == NULL; at += FDS_PER_MESSAGE) {
    uint32_t some = count - at < FDS_PER_MESSAGE ? count - at : FDS_PER_MESSAGE;
    result = send_parcel(connection, " ", 1, fds + at, some);
  }
  if (result.step == NULL) result = send_parcel(connection, text, strlen(text), NULL, 0);
  free(fds);
  return result.step == NULL ? NULL : throw_failure(env, result);
}

/* takeSockets(path, request, timeoutMs) -> [connection, text, fd, fd, …] */
static napi_value take_sockets(napi_env env, napi_callback_info info) {
  napi_value args[3], result, element;
  char path[256], request[256];
  int32_t timeout_ms;
  if (!read_arguments(env, info, 3, args) || !read_text(env, args[0], path, sizeof path) ||
      !read_text(env, args[1], request, sizeof request) || !read_int(env, args[2], &timeout_ms))
    return NULL;
  parcel taken = {0};
  int fd = -1;
  failure outcome = ask_for_parcel(path, request, timeout_ms, &fd, &taken);
  if (outcome.step != NULL) {
    if (fd >= 0) close(fd);
    close_all(taken.fds, taken.count);
    free(taken.fds);
    return throw_failure(env, outcome);
  }
  napi_create_array_with_length(env, taken.count + 2, &result);
  napi_create_int32(env, fd, &element);
  napi_set_element(env, result, 0, element);
  napi_create_string_utf8(env, taken.text, taken.length, &element);
  napi_set_element(env, result, 1, element);
  for (size_t at = 0; at < taken.count; at++) {
    napi_create_int32(env, taken.fds[at], &element);
    napi_set_element(env, result, (uint32_t)at + 2, element);
  }
  free(taken.fds);
  return result;
}

/* notify(path, text, fds): one datagram, as sd_pid_notify_with_fds(3) sends it */
static napi_value notify(napi_env env, napi_callback_info info) {
  napi_value args[3];
  char path[256], text[MAX_TEXT + 1];
  uint32_t count;
  int *fds;
  if (!read_arguments(env, info, 3, args) || !read_text(env, args[0], path, sizeof path) ||
      !read_text(env, args[1], text, sizeof text) || !read_fds(env, args[2], &fds, &count))
    return NULL;
  struct sockaddr_un address;
  socklen_t length;
  failure result = success;
  int fd = -1;
  if (count > FDS_PER_MESSAGE) result = (failure){"notify with so many sockets", E2BIG};
  else if (!unix_address(path, &address, &length)) result = failed("use this path for a socket");
  else if ((fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) < 0) result = failed("create a socket");
  else if (connect(fd, (const struct sockaddr *)&address, length) != 0) result = failed("connect to the service manager");
  else result = send_parcel(fd, text, strlen(text), fds, count);
  if (fd >= 0) close(fd);
  free(fds);
  return result.step == NULL ? NULL : throw_failure(env, result);
}

static bool is_listening_tcp(int fd) {
  int type = 0, protocol = 0, accepts = 0;
  socklen_t size = sizeof(int);
  return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM &&
         getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 && protocol == IPPROTO_TCP &&
         getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &size) == 0 && accepts != 0;
}

/* listenerOf(fd) -> [netns inode, ip, port], or null if it is no listening TCP socket */
static napi_value listener_of(napi_env env, napi_callback_info info) {
  napi_value args[1], result, element;
  int32_t fd;
  if (!read_arguments(env, info, 1, args) || !read_int(env, args[0], &fd)) return NULL;
  struct sockaddr_storage local;
  socklen_t length = sizeof local;
  if (!is_listening_tcp(fd) || getsockname(fd, (struct sockaddr *)&local, &length) != 0) {
    napi_get_null(env, &result);
    return result;
  }
  const act_request what = {.act = ACT_NETNS_OF_SOCKET};
  act_reply reply;
  failure outcome = ask_about(&what, &fd, 1, &reply);
  if (outcome.step != NULL) return throw_failure(env, outcome);
  bool is_v6 = local.ss_family == AF_INET6;
  const struct sockaddr_in *v4 = (const struct sockaddr_in *)&local;
  const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&local;
  char text[INET6_ADDRSTRLEN];
  inet_ntop(local.ss_family, is_v6 ? (const void *)&v6->sin6_addr : (const void *)&v4->sin_addr, text, sizeof text);
  napi_create_array_with_length(env, 3, &result);
  napi_create_double(env, (double)reply.value, &element);
  napi_set_element(env, result, 0, element);
  napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &element);
  napi_set_element(env, result, 1, element);
  napi_create_uint32(env, ntohs(is_v6 ? v6->sin6_port : v4->sin_port), &element);
  napi_set_element(env, result, 2, element);
  return result;
}

/* duplicate(fd) -> fd, closed on exec */
static napi_value duplicate(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int32_t fd;
  if (!read_arguments(env, info, 1, args) || !read_int(env, args[0], &fd)) return NULL;
  int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  return fd_result(env, copy, copy < 0 ? failed("duplicate a descriptor") : success);
}

/* peerUser(fd of a unix socket) -> uid of the process that connected it */
static napi_value peer_user(napi_env env, napi_callback_info info) {
  napi_value args[1], result;
  int32_t fd;
  if (!read_arguments(env, info, 1, args) || !read_int(env, args[0], &fd)) return NULL;
  struct ucred peer;
  socklen_t size = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return throw_failure(env, failed("ask for SO_PEERCRED"));
  /* Of a socket that no process connected, the kernel says -1. */
  if (peer.uid == (uid_t)-1) return throw_failure(env, (failure){"ask for SO_PEERCRED", ENOTCONN});
  napi_create_uint32(env, peer.uid, &result);
  return result;
}

void add_passed_sockets(napi_env env, napi_value exports) {
  const napi_property_descriptor functions[] = {
      FUNCTION("passSockets", pass_sockets),
      FUNCTION("takeSockets", take_sockets),
      FUNCTION("notify", notify),
      FUNCTION("listenerOf", listener_of),
      FUNCTION("duplicate", duplicate),
      FUNCTION("peerUser", peer_user),
  };
  ADD_FUNCTIONS(env, exports, functions);
}
