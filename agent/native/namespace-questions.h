/* Questions to the calling thread's namespace. Plain C without Node. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tcp-life.h"

/* Opens a socket that receives changes: of nftables, or of what policy routing through lo depends on. */
failure open_watch(bool of_netfilter, int *fd);

/* Reads at most `size` bytes of a file. */
failure read_proc_file(const char *path, char *out, size_t size, size_t *length);

/* Opens a path that is a network namespace, and nothing else: EINVAL. */
failure open_netns_file(const char *path, int *fd);

/* Whether a descriptor is a network namespace; its inode. */
bool is_netns(int fd, uint64_t *inode);

/* The inode of the network namespace that a socket belongs to. */
failure netns_of_socket(int fd, uint64_t *inode);
