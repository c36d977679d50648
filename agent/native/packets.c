#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "descriptor-message.h"
#include "request.h"

typedef DESCRIPTOR_BLOCK(MAX_DIALS) control_block;

void close_received(const int *fds, size_t count) {
  const struct linger none = {.l_onoff = 0};
  for (size_t at = 0; at < count; at++) {
    setsockopt(fds[at], SOL_SOCKET, SO_LINGER, &none, sizeof none);
    close(fds[at]);
  }
}

ssize_t send_packet(int channel, const void *bytes, size_t length, const int *fds, size_t count, int flags) {
  control_block control;
  struct iovec part = {.iov_base = (void *)bytes, .iov_len = length};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  attach_descriptors(&message, &control, fds, count);
  ssize_t sent;
  do sent = sendmsg(channel, &message, MSG_NOSIGNAL | flags);
  while (sent < 0 && errno == EINTR);
  return sent;
}

ssize_t receive_packet(int channel, void *bytes, size_t size, int *fds, size_t most, size_t *count, int flags) {
  control_block control;
  struct iovec part = {.iov_base = bytes, .iov_len = size};
  /* Without the padding, in which the kernel would put one more. */
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = CMSG_LEN(most * sizeof(int))};
  ssize_t length;
  do length = recvmsg(channel, &message, MSG_CMSG_CLOEXEC | flags);
  while (length < 0 && errno == EINTR);
  *count = 0;
  if (length < 0) return length;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header)) {
    const size_t some = descriptors_in(header);
    memcpy(fds + *count, CMSG_DATA(header), some * sizeof(int));
    *count += some;
  }
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0) return length;
  close_received(fds, *count);
  *count = 0;
  errno = message.msg_flags & MSG_CTRUNC ? EMFILE : EMSGSIZE;
  return -1;
}
