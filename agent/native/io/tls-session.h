/* Of tls.c and tls-session.c: one TLS session, and the memory through which OpenSSL reads and writes. */
#pragma once

#include <sys/types.h>

#include "io.h"

#define RECORD_BYTES 16384
/* Header, type and tag; and the whole of one record that waits inside of OpenSSL. */
#define RECORD_EXTRA 22
#define WAITING_RECORD (RECORD_BYTES + 256 + 5)
/* OpenSSL reads a record in two steps: its header, then the rest. */
#define READS_OF_RECORD 2
/*
 * In one call. Each KeyUpdate costs new keys, and one of 27 bytes is a record: a read of 256 KiB would have 9,700 of them. A
 * peer of good will sends one in 2^23 records, and a few tickets.
 */
#define MOST_IDLE_READS (READS_OF_RECORD * 64)
#define MOST_BYTES (1 << 19)
#define IN_BYTES MOST_BYTES
#define OUT_BYTES (MOST_BYTES + (MOST_BYTES / RECORD_BYTES + 64) * RECORD_EXTRA + RECORD_BYTES)

struct tls_session {
  io *self;
  tls_context *context;
  SSL *ssl;
  uint8_t *waiting; /* ciphertext that the kernel did not take */
  size_t waiting_at, waiting_length;
  uint8_t *kept; /* ciphertext that came behind the handshake */
  size_t kept_length;
  unsigned long error;
  uint64_t records_per_key, sealed, opened;
  bool is_done, is_admitted, has_failed, has_ended, is_flooded;
};

/* Of an environment, while a call lasts. */
struct tls_scratch {
  uint8_t in[IN_BYTES + WAITING_RECORD];
  uint8_t out[OUT_BYTES];
  size_t in_at, in_length, out_length;
  int idle_reads; /* OpenSSL's, for records of which the application got nothing */
};

static inline size_t waiting_of(const tls_session *session) { return session->waiting_length - session->waiting_at; }
static inline bool is_waiting(const tls_session *session) { return waiting_of(session) > 0; }

/* NULL without memory. It has a use of the context. */
tls_session *make_session(io *self, tls_context *context);
/* Before each call of OpenSSL: its scratch holds nothing, its queue no error of another. */
void begin_call(tls_session *session);
/* What OpenSSL wrote in this call, after what waited. Returns what waits then, or a negated errno. */
int64_t flush_session(tls_session *session, int fd);
/* Nothing more is read or written by it; the first failure is the one that is told. */
void note_failure(tls_session *session);
/* What OpenSSL left in the scratch stays with the session. False without memory. */
bool keep_rest(tls_session *session);
