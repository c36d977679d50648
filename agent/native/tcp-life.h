/*
 * What keeps a carried TCP connection alive and tells how it is doing. Plain C without Node; culvert.c has the bindings.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* The failed step in words, and errno. `step` NULL: no failure. */
typedef struct {
  const char *step;
  int number;
} failure;

typedef struct {
  /* Seconds without a segment until the first probe. */
  int idle_seconds;
  /* Seconds between two probes. */
  int every_seconds;
  /* This many unanswered probes end the connection with ETIMEDOUT, unless outlast_silence is on; at most 127. */
  int most_probes;
  /* Longest time between two retransmissions or window probes, in milliseconds; 0 leaves the kernel's 120 s. */
  int longest_retransmit_ms;
} probing;

/* Urgent data stays in the stream, where it was sent. Accepted sockets inherit it from the listener. */
failure keep_urgent_inline(int fd);

/* Turns keepalive probes on, or changes them. Accepted sockets inherit them from the listener. */
failure set_probing(int fd, const probing *how);

/*
 * While it is on, unanswered probes do not end the connection for 24 days, and neither do bytes that are not
 * acknowledged.
 */
failure outlast_silence(int fd, bool is_on);

typedef struct {
  /* As in include/net/tcp_states.h. */
  int state;
  int unanswered_probes;
  uint32_t ms_since_sent, ms_since_received, ms_since_acknowledgement;
  /* Segments that were sent and are not acknowledged. */
  uint32_t unacknowledged;
} tcp_condition;

failure read_condition(int fd, tcp_condition *out);

/*
 * A deaf socket takes no segment but a reset, so that its peer gets no answer, as from a host that is gone. What it
 * sends is not held back.
 */
failure set_deaf(int fd, bool is_deaf);
