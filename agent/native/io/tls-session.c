/*
 * The bytes of a TLS session between OpenSSL and the kernel. OpenSSL reads and writes memory: what came is in the scratch of
 * the environment while a call lasts, and what goes out is sent at its end. A session keeps only what the kernel did not take.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "tls-session.h"

/* openssl/bio.h. */
#define BIO_SOURCE_SINK 0x0400
#define BIO_CONTROL_FLUSH 11
#define BIO_READ_RETRY (0x01 | 0x08)

/* Handshakes and answers that a peer does not fetch. */
#define MOST_WAITING (OUT_BYTES + 262144)

void free_scratch(io *self) {
  free(self->scratch);
  self->scratch = NULL;
}

/* Behind what waits already, or as the first. */
static bool let_wait(tls_session *session, const uint8_t *bytes, size_t length) {
  const size_t left = waiting_of(session);
  if (left + length > MOST_WAITING) return false;
  uint8_t *grown = malloc(left + length);
  if (grown == NULL) return false;
  if (left > 0) memcpy(grown, session->waiting + session->waiting_at, left);
  memcpy(grown + left, bytes, length);
  free(session->waiting);
  session->waiting = grown;
  session->waiting_at = 0;
  session->waiting_length = left + length;
  return true;
}

static int bio_write(BIO *bio, const char *bytes, int length) {
  struct tls_scratch *scratch = ((tls_session *)node.BIO_get_data(bio))->self->scratch;
  /* A read before this left its flags: a scratch that is full is a failure, not a wait. */
  node.BIO_clear_flags(bio, 0x0f);
  if (length < 0 || (size_t)length > OUT_BYTES - scratch->out_length) return -1;
  memcpy(scratch->out + scratch->out_length, bytes, (size_t)length);
  scratch->out_length += (size_t)length;
  return length;
}

static int bio_read(BIO *bio, char *bytes, int length) {
  tls_session *session = node.BIO_get_data(bio);
  struct tls_scratch *scratch = session->self->scratch;
  const size_t have = scratch->in_length - scratch->in_at;
  node.BIO_clear_flags(bio, 0x0f);
  if (have == 0) {
    node.BIO_set_flags(bio, BIO_READ_RETRY);
    return -1;
  }
  if (session->is_done && ++scratch->idle_reads > MOST_IDLE_READS) {
    session->is_flooded = true;
    return -1; /* for OpenSSL a broken socket: it does not try again */
  }
  const size_t count = (size_t)length < have ? (size_t)length : have;
  memcpy(bytes, scratch->in + scratch->in_at, count);
  scratch->in_at += count;
  return (int)count;
}

static long bio_control(BIO *bio, int what, long number, void *data) {
  (void)bio;
  (void)number;
  (void)data;
  return what == BIO_CONTROL_FLUSH;
}

static BIO_METHOD *batch_method;
static pthread_once_t method_made = PTHREAD_ONCE_INIT;
static void make_method(void) {
  batch_method = node.BIO_meth_new(BIO_SOURCE_SINK | 0x7f, "batch");
  if (batch_method == NULL) return;
  node.BIO_meth_set_write(batch_method, bio_write);
  node.BIO_meth_set_read(batch_method, bio_read);
  node.BIO_meth_set_ctrl(batch_method, bio_control);
}

void free_session(tls_session *session) {
  node.SSL_free(session->ssl);
  drop_context(session->context);
  free(session->waiting);
  free(session->kept);
  free(session);
}

tls_session *make_session(io *self, tls_context *context) {
  pthread_once(&method_made, make_method);
  if (self->scratch == NULL) self->scratch = calloc(1, sizeof *self->scratch);
  tls_session *made = calloc(1, sizeof *made);
  BIO *bio = batch_method == NULL || made == NULL || self->scratch == NULL ? NULL : node.BIO_new(batch_method);
  if (bio == NULL || (made->ssl = new_ssl(context, &made->records_per_key)) == NULL) {
    if (bio != NULL) node.BIO_free(bio);
    free(made);
    return NULL;
  }
  made->self = self;
  made->context = context;
  node.BIO_set_data(bio, made);
  node.BIO_set_init(bio, 1);
  node.SSL_set_bio(made->ssl, bio, bio);
  return made;
}

void begin_call(tls_session *session) {
  struct tls_scratch *scratch = session->self->scratch;
  scratch->in_at = scratch->in_length = scratch->out_length = 0;
  scratch->idle_reads = 0;
  node.ERR_clear_error();
}

/* Tries the kernel. Returns how many bytes it took, or a negated errno other than EAGAIN. */
static ssize_t send_some(int fd, const uint8_t *bytes, size_t length) {
  size_t sent = 0;
  while (sent < length) {
    const ssize_t count = send(fd, bytes + sent, length - sent, MSG_NOSIGNAL);
    if (count < 0 && errno == EAGAIN) break;
    if (count < 0) return -errno;
    sent += (size_t)count;
  }
  return (ssize_t)sent;
}

int64_t flush_session(tls_session *session, int fd) {
  struct tls_scratch *scratch = session->self->scratch;
  const size_t length = scratch->out_length;
  size_t at = 0;
  scratch->out_length = 0;
  if (is_waiting(session)) {
    const ssize_t sent = send_some(fd, session->waiting + session->waiting_at, waiting_of(session));
    if (sent < 0) return sent;
    session->waiting_at += (size_t)sent;
  }
  if (!is_waiting(session)) {
    free(session->waiting);
    session->waiting = NULL;
    session->waiting_at = session->waiting_length = 0;
    const ssize_t sent = send_some(fd, scratch->out, length);
    if (sent < 0) return sent;
    at = (size_t)sent;
  }
  if (at < length && !let_wait(session, scratch->out + at, length - at)) return -ENOBUFS;
  return (int64_t)waiting_of(session);
}

void note_failure(tls_session *session) {
  session->has_failed = true;
  if (session->error == 0) session->error = node.ERR_get_error();
  node.ERR_clear_error();
}

bool keep_rest(tls_session *session) {
  const struct tls_scratch *scratch = session->self->scratch;
  const size_t length = scratch->in_length - scratch->in_at;
  if (length == 0) return true;
  session->kept = malloc(length);
  if (session->kept == NULL) return false;
  memcpy(session->kept, scratch->in + scratch->in_at, length);
  session->kept_length = length;
  return true;
}
