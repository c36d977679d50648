/*
 * The engine's floor: sockets that are numbers, one epoll instance for each environment (thread) of Node, and TLS in
 * batches. No protocol, no policy, no parsing of what peers send beyond OpenSSL's own.
 *
 * A handle is a checked number: a slot and its generation. A stale, forged or another thread's one is an error (-EBADF),
 * never another socket. Functions of the data path take integers and return a result >= 0 or a negated errno, never an
 * exception: -EBADF for a handle, -EINVAL for an argument that is no number or out of its range, -EFAULT for bytes outside
 * of the memory. Setting something up throws.
 *
 * All bytes go through one block of memory of the environment, which C owns; its first DESK_BYTES are a desk, where C puts
 * answers of more than one number. JavaScript that detaches its view loses only the view.
 */
#pragma once

#include "../node-values.h"
#include "node-symbols.h"

#include <stddef.h>
#include <stdint.h>

/* Offsets of what lies on the desk, all of int32. */
#define DESK_BYTES 65536
#define EVENTS_AT 0 /* pairs of handle and events */
#define MOST_EVENTS 1024
#define ACCEPTED_AT 8192 /* ACCEPTED_WORDS for each, see sockets.c */
#define MOST_ACCEPTED 64
#define ACCEPTED_WORDS 20
#define PARTS_AT 16384 /* pairs of offset and length for ioSendParts */
#define MOST_PARTS 256
#define STATUS_AT 20480 /* what else a call has to say: STATUS_WORDS */
#define STATUS_WORDS 4

/* Bits of the first word of the status. */
#define STATUS_DRY 1      /* the kernel has nothing more; the next event comes when it has */
#define STATUS_END 2      /* FIN */
#define STATUS_CLOSED 4   /* close_notify */
#define STATUS_FAILED 8   /* a socket (its errno in the second word) or TLS (EPROTO there) is beyond repair */
#define STATUS_FULL 16    /* the target takes no more; the next event comes when it does */

typedef enum { SLOT_FREE, SLOT_SOCKET, SLOT_TLS_CONTEXT } slot_kind;

typedef struct tls_session tls_session;
typedef struct tls_context tls_context;
typedef struct pipe_pair pipe_pair;

typedef struct {
  int fd;
  uint32_t next_free;
  uint16_t generation;
  uint8_t kind;
  bool is_watched;
  bool has_peer_ended; /* an event said so: after a short read the end is still to be read, and no other event tells it */
  union {
    tls_session *tls;
    tls_context *context;
  };
  pipe_pair *pipe; /* bytes that ioSplice took from this socket and the other one did not take yet */
} slot;

typedef struct io {
  napi_env env;
  napi_ref on_turn;
  napi_async_cleanup_hook_handle hook;
  uv_handle *poll;
  bool is_started, has_ended;
  int epoll;
  uint32_t watched;
  uint8_t *memory;
  size_t memory_length;
  /* slots[0] is never used; the free ones are a queue, so that a number comes back as late as it can */
  slot *slots;
  uint32_t slot_count, slot_capacity, first_free, last_free, free_count;
  uint32_t *slot_of_fd;
  size_t fd_capacity;
  pipe_pair *idle_pipes;
  uint32_t idle_pipe_count;
  struct tls_scratch *scratch;
} io;

/* handles.c. A slot's address is good until the next slot is made. */
slot *find_slot(io *self, int32_t handle, slot_kind kind);
/* Takes over `fd` (-1: none), or returns a negated errno and leaves it the caller's. */
int32_t make_slot(io *self, slot_kind kind, int fd);
void free_slot(io *self, slot *which);
void close_slots(io *self);

/* reactor.c */
void unwatch(io *self, slot *socket);
int32_t *desk(io *self, size_t at);
bool is_inside(const io *self, int32_t offset, int32_t length);
/* Reads integers; false where the environment has no reactor or an argument is no number. */
bool read_integers(napi_env env, napi_callback_info info, size_t count, int32_t *out, io **self);
napi_value integer(napi_env env, int64_t value);
napi_value throw_text(napi_env env, const char *text);
#define FUNCTION_OF(name, call, self) {name, NULL, call, NULL, NULL, NULL, napi_enumerable, self}

/* splice.c, tls-session.c, tls-context.c: what belongs to a slot, and to the environment. */
void free_pipe(pipe_pair *pipe);
void free_idle_pipes(io *self);
void free_session(tls_session *session);
void free_scratch(io *self);
/* The session has a use of the context from then on. NULL without memory. */
SSL *new_ssl(tls_context *context, uint64_t *records_per_key);
void drop_context(tls_context *context);

void add_io_sockets(napi_env env, napi_value exports, io *self);
void add_io_splice(napi_env env, napi_value exports, io *self);
void add_io_tls_contexts(napi_env env, napi_value exports, io *self);
void add_io_tls(napi_env env, napi_value exports, io *self);
