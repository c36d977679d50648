/* What TLS sessions of one workload have in common: its certificate, the roots, and the rules of the protocol. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io.h"

/* openssl/ssl.h and openssl/tls1.h, which not every installation of Node has. */
#define CTRL_MODE 33
#define CTRL_SESSION_CACHE_MODE 44
#define CTRL_CHAIN_CERTIFICATE 89
#define CTRL_MIN_VERSION 123
#define CTRL_MAX_VERSION 124
#define VERSION_1_3 0x0304
#define CACHE_OFF 0
#define MODE_MOVING_WRITE_BUFFER 2
#define MODE_RELEASE_BUFFERS 0x10
#define NO_TICKET ((uint64_t)1 << 14)
#define NO_COMPRESSION ((uint64_t)1 << 17)
#define NO_RENEGOTIATION ((uint64_t)1 << 30)
#define VERIFY_PEER 1
#define ALPN_OK 0
#define ALPN_FATAL 2
#define ALPN_NEGOTIATED 1
#define MOST_ALPN 64

struct tls_context {
  SSL_CTX *ssl;
  uint32_t uses; /* its handle, and sessions: a handshake asks for the ALPN */
  bool is_server;
  uint64_t records_per_key;
  unsigned alpn_length;
  uint8_t alpn[MOST_ALPN]; /* as in the extension: each name after its length */
};

void drop_context(tls_context *context) {
  if (--context->uses > 0) return;
  node.SSL_CTX_free(context->ssl);
  free(context);
}

SSL *new_ssl(tls_context *context, uint64_t *records_per_key) {
  SSL *made = node.SSL_new(context->ssl);
  if (made == NULL) return NULL;
  if (context->is_server) node.SSL_set_accept_state(made);
  else node.SSL_set_connect_state(made);
  *records_per_key = context->records_per_key;
  context->uses++;
  return made;
}

/* The handshake goes on whatever OpenSSL finds; ioTlsPeer has the finding, and nothing of the peer is read before it counts. */
static int note_only(int is_fine, X509_STORE_CTX *found) {
  (void)is_fine;
  (void)found;
  return 1;
}

static int choose_alpn(SSL *ssl, const uint8_t **out, uint8_t *out_length, const uint8_t *in, unsigned in_length, void *own) {
  (void)ssl;
  const tls_context *context = own;
  uint8_t *found;
  if (node.SSL_select_next_proto(&found, out_length, context->alpn, context->alpn_length, in, in_length) != ALPN_NEGOTIATED)
    return ALPN_FATAL;
  *out = found;
  return ALPN_OK;
}

/* In place of a question on the terminal. */
static int no_password(char *buffer, int size, int is_writing, void *data) {
  (void)buffer;
  (void)size;
  (void)is_writing;
  (void)data;
  return -1;
}

typedef bool use_certificate(tls_context *context, X509 *certificate, int number);

static bool use_own(tls_context *context, X509 *certificate, int number) {
  if (number == 0) return node.SSL_CTX_use_certificate(context->ssl, certificate) == 1;
  return node.SSL_CTX_ctrl(context->ssl, CTRL_CHAIN_CERTIFICATE, 1, certificate) == 1; /* 1: it takes a reference */
}

static bool use_root(tls_context *context, X509 *certificate, int number) {
  (void)number;
  if (node.X509_STORE_add_cert(node.SSL_CTX_get_cert_store(context->ssl), certificate) != 1) return false;
  return !context->is_server || node.SSL_CTX_add_client_CA(context->ssl, certificate) == 1;
}

/* openssl/err.h and pemerr.h: library and reason of a text that ends before another certificate begins. */
static bool is_end_of_text(unsigned long error) { return (error >> 23 & 0xff) == 9 && (error & 0x7fffff) == 108; }

/* Every certificate of a text, at least one; false where one is damaged. */
static bool each_certificate(tls_context *context, const void *pem, size_t length, use_certificate *use) {
  BIO *text = node.BIO_new_mem_buf(pem, (int)length);
  if (text == NULL) return false;
  int number = 0;
  bool is_fine = true;
  X509 *certificate;
  while (is_fine && (node.ERR_clear_error(), certificate = node.PEM_read_bio_X509(text, NULL, no_password, NULL)) != NULL) {
    is_fine = use(context, certificate, number++);
    node.X509_free(certificate);
  }
  node.BIO_free(text);
  return is_fine && number > 0 && is_end_of_text(node.ERR_get_error());
}

static bool use_key(tls_context *context, const void *pem, size_t length) {
  BIO *text = node.BIO_new_mem_buf(pem, (int)length);
  EVP_PKEY *key = text == NULL ? NULL : node.PEM_read_bio_PrivateKey(text, NULL, no_password, NULL);
  const bool is_fine = key != NULL && node.SSL_CTX_use_PrivateKey(context->ssl, key) == 1 &&
                       node.SSL_CTX_check_private_key(context->ssl) == 1;
  node.EVP_PKEY_free(key);
  if (text != NULL) node.BIO_free(text);
  return is_fine;
}

typedef struct {
  void *bytes;
  size_t length;
} bytes;

static bool read_bytes(napi_env env, napi_value value, bytes *out) {
  return napi_get_buffer_info(env, value, &out->bytes, &out->length) == napi_ok && out->length <= 1 << 20;
}

/* What cannot be used; NULL when all can. */
static const char *fill(tls_context *context, const bytes *chain, const bytes *key, const bytes *roots, const char *ciphers) {
  SSL_CTX *ssl = context->ssl;
  if (node.SSL_CTX_ctrl(ssl, CTRL_MIN_VERSION, VERSION_1_3, NULL) != 1 ||
      node.SSL_CTX_ctrl(ssl, CTRL_MAX_VERSION, VERSION_1_3, NULL) != 1)
    return "this OpenSSL has no TLS 1.3";
  node.SSL_CTX_set_options(ssl, NO_TICKET | NO_COMPRESSION | NO_RENEGOTIATION);
  node.SSL_CTX_ctrl(ssl, CTRL_SESSION_CACHE_MODE, CACHE_OFF, NULL);
  node.SSL_CTX_ctrl(ssl, CTRL_MODE, MODE_MOVING_WRITE_BUFFER | MODE_RELEASE_BUFFERS, NULL);
  if (node.SSL_CTX_set_num_tickets(ssl, 0) != 1) return "tickets cannot be turned off";
  if (node.SSL_CTX_set_ciphersuites(ssl, ciphers) != 1) return "the cipher suites cannot be used";
  node.SSL_CTX_set_verify(ssl, VERIFY_PEER, note_only);
  if (context->is_server) node.SSL_CTX_set_alpn_select_cb(ssl, choose_alpn, context);
  else if (node.SSL_CTX_set_alpn_protos(ssl, context->alpn, context->alpn_length) != 0) return "the ALPN cannot be used";
  if (!each_certificate(context, chain->bytes, chain->length, use_own)) return "the certificate chain cannot be used";
  if (!use_key(context, key->bytes, key->length)) return "the private key cannot be used, or is another certificate's";
  if (!each_certificate(context, roots->bytes, roots->length, use_root)) return "the roots cannot be used";
  return NULL;
}

/* Each name is 1 to 255 bytes after its length. */
static bool is_alpn(const uint8_t *names, size_t length) {
  if (length == 0 || length > MOST_ALPN) return false;
  size_t at = 0;
  while (at < length && names[at] > 0) at += 1 + (size_t)names[at];
  return at == length;
}

/*
 * ioTlsContext(isServer, chain, key, roots, alpn, ciphers, recordsPerKey) -> handle. `chain`, `key` and `roots` are buffers
 * with PEM, the leaf first; `alpn` is one as in the extension. TLS 1.3 only, no tickets, no renegotiation. After
 * `recordsPerKey` records in one direction that direction gets another key. Throws what cannot be used.
 */
static napi_value make_context(napi_env env, napi_callback_info info) {
  napi_value args[7];
  size_t given = 7;
  io *self;
  bytes chain, key, roots, alpn;
  bool is_server;
  char ciphers[256];
  size_t length;
  int64_t records;
  if (napi_get_cb_info(env, info, &given, args, NULL, (void **)&self) != napi_ok || given < 7 ||
      napi_get_value_bool(env, args[0], &is_server) != napi_ok || !read_bytes(env, args[1], &chain) ||
      !read_bytes(env, args[2], &key) || !read_bytes(env, args[3], &roots) || !read_bytes(env, args[4], &alpn) ||
      napi_get_value_string_utf8(env, args[5], ciphers, sizeof ciphers, &length) != napi_ok ||
      napi_get_value_int64(env, args[6], &records) != napi_ok || records < 1 || !is_alpn(alpn.bytes, alpn.length))
    return throw_text(env, "ioTlsContext: wrong arguments");
  if (!self->is_started || self->has_ended) return throw_text(env, "ioTlsContext: the reactor has not been started");
  tls_context *made = calloc(1, sizeof *made);
  if (made == NULL) return throw_text(env, "no memory");
  made->uses = 1;
  made->is_server = is_server;
  made->records_per_key = (uint64_t)records;
  made->alpn_length = (unsigned)alpn.length;
  memcpy(made->alpn, alpn.bytes, alpn.length);
  node.ERR_clear_error();
  made->ssl = node.SSL_CTX_new(is_server ? node.TLS_server_method() : node.TLS_client_method());
  if (made->ssl == NULL) {
    free(made);
    return throw_text(env, "no TLS context");
  }
  const char *problem = fill(made, &chain, &key, &roots, ciphers);
  node.ERR_clear_error();
  const int32_t handle = problem == NULL ? make_slot(self, SLOT_TLS_CONTEXT, -1) : -1;
  if (handle < 0) {
    drop_context(made);
    return throw_text(env, problem == NULL ? "too many handles" : problem);
  }
  find_slot(self, handle, SLOT_TLS_CONTEXT)->context = made;
  return integer(env, handle);
}

/* ioFreeTlsContext(handle) -> 0. Sessions that have begun with it go on. */
static napi_value free_tls_context(napi_env env, napi_callback_info info) {
  int32_t in[1];
  io *self;
  if (!read_integers(env, info, 1, in, &self)) return integer(env, -EINVAL);
  slot *found = find_slot(self, in[0], SLOT_TLS_CONTEXT);
  if (found == NULL) return integer(env, -EBADF);
  free_slot(self, found);
  return integer(env, 0);
}

void add_io_tls_contexts(napi_env env, napi_value exports, io *self) {
  const napi_property_descriptor functions[] = {
      FUNCTION_OF("ioTlsContext", make_context, self),
      FUNCTION_OF("ioFreeTlsContext", free_tls_context, self),
  };
  ADD_FUNCTIONS(env, exports, functions);
}
