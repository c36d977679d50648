/*
 * The kernel's packet queue (nfnetlink_queue): an iptables rule with the target NFQUEUE hands packets to it, and they wait
 * there for a verdict. Plain C without Node; culvert.c has the bindings.
 */
#pragma once

#include "tcp-life.h"

/*
 * Opens a queue in the calling thread's namespace. Packets arrive as messages of nfnetlink, each with the packet's first
 * bytes. The socket is the caller's, also after a failure, unless it is -1.
 *
 * EPERM or EBUSY: another socket has the queue. EPROTONOSUPPORT, EINVAL or EOPNOTSUPP: the kernel has none.
 */
failure open_syn_queue(uint16_t number, uint32_t max_length, int *fd);

/* One end of a pair of Unix sockets, whose other end is closed. */
failure open_replaceable_socket(int *fd);
