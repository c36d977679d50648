#define _GNU_SOURCE
#include "namespace-questions.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/nsfs.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static failure failed(const char *step) { return (failure){step, errno}; }
static const failure success = {NULL, 0};

static failure join_group(int fd, int group) {
  return setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) == 0
             ? success
             : failed("join a netlink multicast group");
}

failure open_watch(bool of_netfilter, int *fd) {
  static const int netfilter_groups[] = {NFNLGRP_NFTABLES, 0};
  static const int route_groups[] = {RTNLGRP_LINK,        RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_ROUTE,
                                     RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_RULE,  0};
  *fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, of_netfilter ? NETLINK_NETFILTER : NETLINK_ROUTE);
  if (*fd < 0) return failed("create a netlink socket");
  /* The kernel takes a sender without an address for itself and skips it when it multicasts. */
  const struct sockaddr_nl any = {.nl_family = AF_NETLINK};
  if (bind(*fd, (const struct sockaddr *)&any, sizeof any) != 0) return failed("bind a netlink socket");
  for (const int *group = of_netfilter ? netfilter_groups : route_groups; *group != 0; group++) {
    failure result = join_group(*fd, *group);
    if (result.step != NULL) return result;
  }
  return success;
}

/*
 * What the path names itself, and a link only of root: a file that an agent may have read can lie where others can write. O_PATH
 * first: to open a device or a pipe can do something.
 */
static failure open_plain(const char *path, int *fd) {
  struct stat found;
  char again[32];
  *fd = -1;
  const int place = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (place < 0 || fstat(place, &found) != 0) return failed("open the file");
  if (S_ISREG(found.st_mode) && found.st_nlink == 1) {
    snprintf(again, sizeof again, "/proc/self/fd/%d", place);
    *fd = open(again, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  } else if (S_ISLNK(found.st_mode) && found.st_uid == 0) {
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  } else {
    errno = EPERM;
  }
  const int number = errno;
  close(place);
  if (*fd < 0) return (failure){"open the file", number};
  if (fstat(*fd, &found) == 0 && S_ISREG(found.st_mode)) return success;
  close(*fd);
  return (failure){"open what is no file", EINVAL};
}

failure read_proc_file(const char *path, char *out, size_t size, size_t *length) {
  int fd;
  failure opened = open_plain(path, &fd);
  if (opened.step != NULL) return opened;
  *length = 0;
  ssize_t count = 1;
  while (*length < size && count > 0) {
    count = read(fd, out + *length, size - *length);
    if (count > 0) *length += (size_t)count;
  }
  failure result = count < 0 ? failed("read the file") : success;
  close(fd);
  return result;
}

bool is_netns(int fd, uint64_t *inode) {
  struct stat found;
  if (ioctl(fd, NS_GET_NSTYPE) != CLONE_NEWNET || fstat(fd, &found) != 0) return false;
  *inode = found.st_ino;
  return true;
}

/* O_PATH first: to open a device or a pipe can do something, and a namespace must be opened to ask what it is. */
failure open_netns_file(const char *path, int *fd) {
  struct stat found, own;
  char again[32];
  uint64_t inode;
  *fd = -1;
  int place = open(path, O_PATH | O_CLOEXEC);
  if (place < 0) return failed("open the network namespace");
  bool is_nsfs = fstat(place, &found) == 0 && stat("/proc/self/ns/net", &own) == 0 && found.st_dev == own.st_dev;
  if (is_nsfs) {
    snprintf(again, sizeof again, "/proc/self/fd/%d", place);
    *fd = open(again, O_RDONLY | O_CLOEXEC);
  }
  int number = errno;
  close(place);
  if (!is_nsfs) return (failure){"open what is no network namespace", EINVAL};
  if (*fd < 0) return (failure){"open the network namespace", number};
  return is_netns(*fd, &inode) ? success : (failure){"open what is no network namespace", EINVAL};
}

failure netns_of_socket(int fd, uint64_t *inode) {
  int netns = ioctl(fd, SIOCGSKNS);
  if (netns < 0) return failed("ask for the namespace of a socket (SIOCGSKNS)");
  bool ok = is_netns(netns, inode);
  int number = errno;
  close(netns);
  return ok ? success : (failure){"ask for the inode of a namespace", number};
}
