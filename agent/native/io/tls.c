/*
 * TLS on a socket, in batches: one recv() of up to 512 KiB and all its records, one or many writes and one send().
 *
 * A session belongs to its socket and ends with it. Nothing of the peer's application is readable before ioTlsAdmit, which
 * the caller makes after its own judgement of what ioTlsPeer says.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "tls-session.h"

/* openssl/ssl.h. */
#define ERROR_WANT_READ 2
#define ERROR_ZERO_RETURN 6
#define KEY_UPDATE_NOT_REQUESTED 0
#define KEY_UPDATE_REQUESTED 1

#define HANDSHAKE_READ 65536
#define CHAIN_MOST 16

/* Of a call that reads: what it found, and how many bytes of the network wait for the kernel (EPOLLOUT, then ioTlsFlush). */
static void say(io *self, int32_t bits, int32_t number, int64_t waiting) {
  int32_t *status = desk(self, STATUS_AT);
  status[0] = bits;
  status[1] = number;
  status[2] = (int32_t)waiting;
}

/* A short read is the last one, unless the end is behind it. */
static bool is_dry(const slot *socket_of, ssize_t count, size_t most) {
  return count < 0 || ((size_t)count < most && !socket_of->has_peer_ended);
}

#define SESSION(count) \
  int32_t in[count]; \
  io *self; \
  if (!read_integers(env, info, count, in, &self)) return integer(env, -EINVAL); \
  slot *socket_of = find_slot(self, in[0], SLOT_SOCKET); \
  if (socket_of == NULL) return integer(env, -EBADF); \
  tls_session *session = socket_of->tls; \
  if (session == NULL) return integer(env, -ENOTCONN)

/* ioTlsBegin(socket, context) -> 0. TLS on a connected socket from its next byte on; -EALREADY where there is TLS. */
static napi_value begin(napi_env env, napi_callback_info info) {
  int32_t in[2];
  io *self;
  if (!read_integers(env, info, 2, in, &self)) return integer(env, -EINVAL);
  slot *socket_of = find_slot(self, in[0], SLOT_SOCKET), *context = find_slot(self, in[1], SLOT_TLS_CONTEXT);
  if (socket_of == NULL || context == NULL) return integer(env, -EBADF);
  if (socket_of->tls != NULL) return integer(env, -EALREADY);
  socket_of->tls = make_session(self, context->context);
  return integer(env, socket_of->tls == NULL ? -ENOMEM : 0);
}

/*
 * ioTlsHandshake(socket) -> 1: done; 0: goes on with the next event, or at once where the status does not say DRY. One step
 * with what has come, which has at most one operation with the private key. -EPROTO: failed, ioTlsFailure says how, and the
 * alert is on its way. -ECONNABORTED: the peer ended the connection. Otherwise the errno of the socket. The third word of the
 * status is the bytes that wait for the kernel.
 */
static napi_value handshake(napi_env env, napi_callback_info info) {
  SESSION(1);
  if (session->has_failed) return integer(env, -EPROTO);
  if (session->is_done) return integer(env, -EISCONN);
  struct tls_scratch *scratch = self->scratch;
  begin_call(session);
  const ssize_t count = recv(socket_of->fd, scratch->in, HANDSHAKE_READ, 0);
  const int32_t dry = is_dry(socket_of, count, HANDSHAKE_READ) ? STATUS_DRY : 0;
  say(self, dry, 0, waiting_of(session));
  if (count < 0 && errno != EAGAIN) return integer(env, -errno);
  if (count == 0) return integer(env, -ECONNABORTED);
  if (count > 0) scratch->in_length = (size_t)count;
  const int result = node.SSL_do_handshake(session->ssl);
  session->is_done = result == 1;
  const bool goes_on = result != 1 && node.SSL_get_error(session->ssl, result) == ERROR_WANT_READ;
  if (result != 1 && !goes_on) note_failure(session);
  const int64_t waiting = flush_session(session, socket_of->fd);
  say(self, dry, 0, waiting_of(session));
  if (session->has_failed) return integer(env, -EPROTO);
  const int64_t problem = waiting < 0 ? waiting : session->is_done && !keep_rest(session) ? -ENOMEM : 0;
  /* Bytes are lost: nothing may go on behind them. */
  if (problem != 0) session->has_failed = true;
  return integer(env, problem != 0 ? problem : session->is_done);
}

static bool add_der(napi_env env, napi_value list, uint32_t at, const X509 *certificate) {
  napi_value buffer;
  uint8_t *bytes;
  const int length = node.i2d_X509(certificate, NULL);
  if (length <= 0 || napi_create_buffer(env, (size_t)length, (void **)&bytes, &buffer) != napi_ok) return false;
  return node.i2d_X509(certificate, &bytes) == length && napi_set_element(env, list, at, buffer) == napi_ok;
}

/*
 * ioTlsPeer(socket) -> [verification result (0: fine, see openssl-verification-options(1)), ALPN, was a session resumed,
 * certificates in DER, the leaf first]; null before the handshake is done. Without a certificate the result says fine.
 */
static napi_value peer(napi_env env, napi_callback_info info) {
  int32_t in[1];
  io *self;
  napi_value result, value;
  napi_get_null(env, &result);
  if (!read_integers(env, info, 1, in, &self)) return result;
  slot *socket_of = find_slot(self, in[0], SLOT_SOCKET);
  if (socket_of == NULL || socket_of->tls == NULL || !socket_of->tls->is_done) return result;
  SSL *ssl = socket_of->tls->ssl;
  const uint8_t *alpn = NULL;
  unsigned length = 0;
  uint32_t at = 3;
  napi_create_array(env, &result);
  napi_create_int64(env, node.SSL_get_verify_result(ssl), &value);
  napi_set_element(env, result, 0, value);
  node.SSL_get0_alpn_selected(ssl, &alpn, &length);
  napi_create_string_latin1(env, alpn == NULL ? "" : (const char *)alpn, length, &value);
  napi_set_element(env, result, 1, value);
  napi_get_boolean(env, node.SSL_session_reused(ssl) == 1, &value);
  napi_set_element(env, result, 2, value);
  X509 *leaf = node.SSL_get1_peer_certificate(ssl);
  if (leaf == NULL) return result;
  const bool has_leaf = add_der(env, result, at++, leaf);
  node.X509_free(leaf);
  /* At a client the chain has the leaf, at a server it does not; the reader tells by comparing. */
  const STACK *chain = node.SSL_get_peer_cert_chain(ssl);
  const int count = chain == NULL ? 0 : node.OPENSSL_sk_num(chain);
  for (int of = 0; has_leaf && of < count && of < CHAIN_MOST; of++)
    if (!add_der(env, result, at++, node.OPENSSL_sk_value(chain, of))) break;
  return result;
}

/* ioTlsFailure(socket) -> OpenSSL's words for what failed, "" if nothing did: "tlsv1 alert unknown ca", for example. */
static napi_value failure_of(napi_env env, napi_callback_info info) {
  int32_t in[1];
  io *self;
  napi_value result;
  const char *text = NULL;
  if (read_integers(env, info, 1, in, &self)) {
    const slot *socket_of = find_slot(self, in[0], SLOT_SOCKET);
    const tls_session *session = socket_of == NULL ? NULL : socket_of->tls;
    if (session != NULL && session->is_flooded) text = "too many records without data";
    else if (session != NULL && session->has_failed) text = node.ERR_reason_error_string(session->error);
    if (session != NULL && session->has_failed && text == NULL) text = "unknown failure";
  }
  napi_create_string_utf8(env, text == NULL ? "" : text, NAPI_AUTO_LENGTH, &result);
  return result;
}

/* ioTlsAdmit(socket) -> 0. The peer is who it must be: from now on its bytes may be read. */
static napi_value admit(napi_env env, napi_callback_info info) {
  SESSION(1);
  if (!session->is_done || session->has_failed) return integer(env, -ENOTCONN);
  session->is_admitted = true;
  return integer(env, 0);
}

/* All complete records of the scratch to `out`. Returns the bits of the status. */
static int32_t open_records(tls_session *session, uint8_t *out, size_t room, size_t *got) {
  for (;;) {
    size_t count;
    if (*got < room && node.SSL_read_ex(session->ssl, out + *got, room - *got, &count) == 1) {
      *got += count;
      session->opened++;
      session->self->scratch->idle_reads -= READS_OF_RECORD;
      continue;
    }
    if (*got == room) return 0;
    const int error = node.SSL_get_error(session->ssl, 0);
    if (error == ERROR_WANT_READ) return 0;
    if (error == ERROR_ZERO_RETURN) return STATUS_CLOSED;
    note_failure(session);
    return STATUS_FAILED;
  }
}

/*
 * ioTlsReceive(socket, offset, most, room) -> bytes of the application at `offset`, from at most `most` (to 512 KiB) bytes
 * of the network. `room` must be at least 65536 more than `most`. The status says DRY, END, CLOSED and FAILED, and in its
 * third word how many bytes wait for the kernel: a read can have an answer. Bytes that came before a failure are good.
 * More than 64 records without such bytes in one call, KeyUpdates for example, are a failure. -EACCES before ioTlsAdmit, after
 * which some may be there without another event.
 */
static napi_value receive(napi_env env, napi_callback_info info) {
  SESSION(4);
  if (!is_inside(self, in[1], in[3])) return integer(env, -EFAULT);
  if (in[2] < 1 || in[2] > MOST_BYTES || in[3] < in[2] + 65536) return integer(env, -EINVAL);
  if (!session->is_admitted) return integer(env, -EACCES);
  struct tls_scratch *scratch = self->scratch;
  if (session->has_failed) {
    say(self, STATUS_FAILED, EPROTO, waiting_of(session));
    return integer(env, 0);
  }
  begin_call(session);
  size_t most = (size_t)in[2];
  if (session->kept != NULL) { /* at most HANDSHAKE_READ */
    memcpy(scratch->in, session->kept, session->kept_length);
    scratch->in_length = session->kept_length;
    free(session->kept);
    session->kept = NULL;
    if (most > IN_BYTES - scratch->in_length) most = IN_BYTES - scratch->in_length;
  }
  const ssize_t count = recv(socket_of->fd, scratch->in + scratch->in_length, most, 0);
  int32_t bits = 0, number = 0;
  if (count > 0) scratch->in_length += (size_t)count;
  if (count == 0) bits = STATUS_END;
  else if (count < 0 && errno != EAGAIN) bits = STATUS_FAILED, number = errno;
  else if (is_dry(socket_of, count, most)) bits = STATUS_DRY;
  size_t got = 0;
  const int32_t found = open_records(session, self->memory + in[1], (size_t)in[3], &got);
  /* It never happens: with that much room OpenSSL has taken all. */
  if (found == 0 && scratch->in_at < scratch->in_length) session->has_failed = true;
  if (session->has_failed) bits |= STATUS_FAILED;
  /* Answers to a KeyUpdate, and alerts. */
  const int64_t waiting = flush_session(session, socket_of->fd);
  if (waiting < 0) bits |= STATUS_FAILED;
  if (number == 0 && session->has_failed) number = EPROTO;
  if (number == 0 && waiting < 0) number = (int32_t)-waiting;
  say(self, bits | found, number, waiting_of(session));
  return integer(env, (int64_t)got);
}

/* RFC 8446 section 5.5: a key seals 2^24.5 records of AES-GCM. The peer is asked for another one of its own, too. */
static bool renew_keys(tls_session *session, size_t length) {
  const uint64_t next = length / RECORD_BYTES + 1;
  const bool asks = session->opened >= session->records_per_key;
  if (!asks && session->sealed + next <= session->records_per_key) {
    session->sealed += next;
    return true;
  }
  session->sealed = next;
  if (asks) session->opened = 0;
  return node.SSL_key_update(session->ssl, asks ? KEY_UPDATE_REQUESTED : KEY_UPDATE_NOT_REQUESTED) == 1;
}

/* What ioTlsSend and ioTlsSendBytes do with what they send. */
static int64_t send_records(slot *socket_of, const uint8_t *bytes, size_t length) {
  tls_session *session = socket_of->tls;
  if (length > MOST_BYTES) return -EINVAL;
  if (session->has_failed) return -EPROTO;
  if (!session->is_done) return -ENOTCONN;
  if (session->has_ended) return -EPIPE;
  begin_call(session);
  if (is_waiting(session)) {
    const int64_t waiting = flush_session(session, socket_of->fd);
    if (waiting != 0) return waiting < 0 ? waiting : -EAGAIN;
  }
  size_t count;
  if (length > 0 &&
      (!renew_keys(session, length) || node.SSL_write_ex(session->ssl, bytes, length, &count) != 1)) {
    note_failure(session);
    return -EPROTO;
  }
  return flush_session(session, socket_of->fd);
}

/*
 * ioTlsSend(socket, offset, length) -> bytes of the network that wait for the kernel. Takes all, up to 512 KiB; or nothing
 * (-EAGAIN) while something waits: EPOLLOUT, then ioTlsFlush. The bytes are the caller's again when it returns.
 * -EPIPE after ioTlsEnd. A peer that is not admitted can be sent something, for why it is not.
 */
static napi_value send_from_memory(napi_env env, napi_callback_info info) {
  SESSION(3);
  (void)session;
  if (!is_inside(self, in[1], in[2])) return integer(env, -EFAULT);
  return integer(env, send_records(socket_of, self->memory + in[1], (size_t)in[2]));
}

/* ioTlsSendBytes(socket, bytes) -> as ioTlsSend, of a buffer of JavaScript: nothing is copied before it is sealed. */
static napi_value send_bytes(napi_env env, napi_callback_info info) {
  napi_value args[2];
  size_t given = 2, length;
  io *self;
  int32_t handle;
  void *bytes;
  if (napi_get_cb_info(env, info, &given, args, NULL, (void **)&self) != napi_ok || given < 2 || !self->is_started ||
      self->has_ended || napi_get_value_int32(env, args[0], &handle) != napi_ok ||
      napi_get_buffer_info(env, args[1], &bytes, &length) != napi_ok)
    return integer(env, -EINVAL);
  slot *socket_of = find_slot(self, handle, SLOT_SOCKET);
  if (socket_of == NULL) return integer(env, -EBADF);
  return integer(env, socket_of->tls == NULL ? -ENOTCONN : send_records(socket_of, bytes, length));
}

/* ioTlsFlush(socket) -> bytes that still wait for the kernel. */
static napi_value flush_waiting(napi_env env, napi_callback_info info) {
  SESSION(1);
  begin_call(session);
  return integer(env, flush_session(session, socket_of->fd));
}

/* ioTlsEnd(socket) -> bytes that wait. close_notify, behind all that was sent; the other direction goes on. */
static napi_value end(napi_env env, napi_callback_info info) {
  SESSION(1);
  if (session->has_failed) return integer(env, -EPROTO);
  if (!session->is_done) return integer(env, -ENOTCONN);
  begin_call(session);
  if (!session->has_ended && node.SSL_shutdown(session->ssl) < 0) {
    note_failure(session);
    return integer(env, -EPROTO);
  }
  session->has_ended = true;
  return integer(env, flush_session(session, socket_of->fd));
}

void add_io_tls(napi_env env, napi_value exports, io *self) {
  const napi_property_descriptor functions[] = {
      FUNCTION_OF("ioTlsBegin", begin, self),       FUNCTION_OF("ioTlsHandshake", handshake, self),
      FUNCTION_OF("ioTlsPeer", peer, self),         FUNCTION_OF("ioTlsFailure", failure_of, self),
      FUNCTION_OF("ioTlsAdmit", admit, self),       FUNCTION_OF("ioTlsReceive", receive, self),
      FUNCTION_OF("ioTlsSend", send_from_memory, self), FUNCTION_OF("ioTlsSendBytes", send_bytes, self),
      FUNCTION_OF("ioTlsFlush", flush_waiting, self), FUNCTION_OF("ioTlsEnd", end, self),
  };
  ADD_FUNCTIONS(env, exports, functions);
}
