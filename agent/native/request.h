/*
 * What a process without capabilities asks the privileged helper for, and what it gets. One request is one packet with at
 * most MAX_REQUEST_FDS descriptors, one reply one packet with at most MAX_DIALS. Without a helper the same requests are
 * performed in the process itself.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "tcp-life.h"

typedef enum {
  ACT_PING,
  ACT_LISTEN,
  ACT_DIAL,
  ACT_MAKE_TRANSPARENT,
  ACT_OPEN_CONNTRACK,
  ACT_ASK_CONNTRACK,
  ACT_OPEN_SOCK_DIAG,
  ACT_ABORT_CONNECTION,
  ACT_OPEN_QUEUE,
  ACT_SEND_VERDICT,
  ACT_WATCH,
  ACT_WATCH_CONNECTIONS,
  ACT_DELETE_EMPTY_TABLE,
  ACT_FIND_TABLES,
  ACT_READ_FILE,
  ACT_OPEN_NETNS,
  ACT_NETNS_OF_SOCKET,
  ACT_MAY_CHANGE_EARLY_DEMUX,
  /* Only a helper performs it. */
  ACT_RUN_PROGRAM,
  ACT_COUNT,
} act;

/* A namespace, the payload, and three pipes of a program. */
#define MAX_REQUEST_FDS 5
/* Sockets of one request to dial with. All else has one descriptor in its reply, or none. */
#define MAX_DIALS 16
#define MAX_REQUEST_TEXT 256
#define MAX_REPLY_TEXT 16384
#define MAX_STEP 128

typedef struct {
  uint32_t act;
  /* The first descriptor is the network namespace to act in; otherwise it is that of the process that acts. */
  bool has_netns;
  /* Of a listener or dial. */
  bool is_transparent, is_port_shared;
  /* Of a dial: how many sockets, from 1 to MAX_DIALS. */
  uint8_t sockets;
  /* Of a watch: of nftables, not of routes. Of a table: of IPv6. */
  bool is_of_netfilter, is_ipv6;
  /* Number of a queue. */
  uint16_t port;
  int32_t backlog;
  uint32_t mark, max_length;
  /* The address to listen on, or the two ends of a connection; of a dial only the family. */
  struct sockaddr_storage local, remote;
  uint32_t cookie[2];
  /* Bytes in `text`; a path or name also has a NUL within it. */
  uint32_t length;
  char text[MAX_REQUEST_TEXT];
} act_request;

typedef struct {
  /* errno of what failed in `step`; 0: done. */
  int32_t number;
  char step[MAX_STEP];
  int64_t value;
  uint32_t length;
  char text[MAX_REPLY_TEXT];
} act_reply;

#define REPLY_HEAD offsetof(act_reply, text)

/* Descriptors that an act made, which are the caller's then. */
typedef struct {
  size_t count;
  int fds[MAX_DIALS];
} made_fds;

/* The namespace that the calling thread belongs to is kept open from the first visit to another one on; -1 until then. */
failure perform(const act_request *what, const int *fds, size_t count, int *own_netns, act_reply *out, made_fds *made);

/*
 * Sends a packet with at most MAX_DIALS descriptors, or receives one with at most `most`: its length, or -1 and errno, EMFILE
 * where there were more or no place for them. Received descriptors are the caller's.
 */
ssize_t send_packet(int channel, const void *bytes, size_t length, const int *fds, size_t count, int flags);
ssize_t receive_packet(int channel, void *bytes, size_t size, int *fds, size_t most, size_t *count, int flags);
/* Closes descriptors of a client without waiting: SO_LINGER, which the client can set on a socket, would have close() wait. */
void close_received(const int *fds, size_t count);
