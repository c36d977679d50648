/* Questions to the kernel about TCP sockets of other processes, in the calling thread's namespace (sock_diag(7)). */
#pragma once

#include <netinet/in.h>

#include "tcp-life.h"

/* One connection as its owner sees it. */
typedef struct {
  int family;
  struct in6_addr local, remote; /* IPv4 in the first four bytes. */
  in_port_t local_port, remote_port; /* In network order. */
} connection_name;

/* `is_known` false: no socket has this connection. */
typedef struct {
  bool is_known;
  int state;
  /* Milliseconds until its next keepalive probe; -1: it sends none, or bytes are under way. */
  int64_t probes_in_ms;
  uint32_t cookie[2];
} connection_report;

failure ask_about_connection(const connection_name *name, connection_report *out);

/* Ends the socket of the report; its owner sees ECONNABORTED. EOPNOTSUPP where the kernel cannot. */
failure abort_connection(const connection_name *name, const connection_report *found);
