/* Questions to connection tracking (nfnetlink) about one redirected connection. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

/* Opens a socket for the questions in the calling thread's namespace; -1 and errno. */
int open_conntrack(void);

/*
 * The port that the client of a redirected connection dialled from, in network order; 0 when no entry has it, -1 and errno
 * for a failure. Both addresses are those of the accepted socket, with IPv4 as IPv4 or mapped.
 */
int original_source_port(int conntrack_fd, const struct sockaddr_storage *local, const struct sockaddr_storage *peer);

/*
 * The same for a connection of which only the addresses are known: whether an entry has it, 1 or 0, -1 and errno for a
 * failure. Replies go from `server` to `client`.
 */
int is_tracked(int conntrack_fd, const struct sockaddr_storage *server, const struct sockaddr_storage *client);
