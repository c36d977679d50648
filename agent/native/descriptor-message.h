/* Descriptors in a message of unix(7) (SCM_RIGHTS). */
#pragma once

#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

/* Room for at most this number of descriptors, aligned as the kernel wants it. */
#define DESCRIPTOR_BLOCK(most)                  \
  union {                                       \
    struct cmsghdr header;                      \
    char bytes[CMSG_SPACE((most) * sizeof(int))]; \
  }

/* `block` has room for `count`, and stays in use. */
static inline void attach_descriptors(struct msghdr *message, void *block, const int *fds, size_t count) {
  if (count == 0) return;
  memset(block, 0, CMSG_SPACE(count * sizeof(int)));
  message->msg_control = block;
  message->msg_controllen = CMSG_SPACE(count * sizeof(int));
  struct cmsghdr *header = CMSG_FIRSTHDR(message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(count * sizeof(int));
  memcpy(CMSG_DATA(header), fds, count * sizeof(int));
}

/* How many descriptors a part of a received message has, at CMSG_DATA. */
static inline size_t descriptors_in(const struct cmsghdr *header) {
  if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) return 0;
  return (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
}
