/*
 * Questions to the kernel about TCP sockets of other processes (sock_diag(7)). Plain C without Node; sock-diag-calls.c has
 * the bindings. A kept socket answers in about a third of the time that a new one takes.
 */
#pragma once

#include <netinet/in.h>

#include "tcp-life.h"

/* One connection as its owner sees it. */
typedef struct {
  int family;
  struct in6_addr local, remote; /* IPv4 in the first four bytes. */
  in_port_t local_port, remote_port; /* In network order. */
  /* Of the one socket that is meant, SO_COOKIE; both ANY_COOKIE: whichever has the connection now. */
  uint32_t cookie[2];
} connection_name;

#define ANY_COOKIE (~0u)

/* `is_known` false: no such socket. */
typedef struct {
  bool is_known;
  int state;
  /* Milliseconds until its next keepalive probe; -1: it sends none, or bytes are under way. */
  int64_t probes_in_ms;
  uint32_t cookie[2];
} connection_report;

/* Opens a socket for the questions, which are about the namespace in which the calling thread is now. */
failure open_sock_diag(int *fd);

failure ask_about_connection(int fd, const connection_name *name, connection_report *out);

/* Ends the socket; its owner sees ECONNABORTED. `was_there` false: no such socket. EOPNOTSUPP where the kernel cannot. */
failure abort_connection(int fd, const connection_name *name, bool *was_there);
