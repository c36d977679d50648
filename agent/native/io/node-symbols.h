/*
 * What the engine uses of libuv and OpenSSL inside Node's own binary. The declarations are here because not every
 * installation of Node has their headers. They are looked up by name at the start of an environment: a Node that
 * hides one of them gives an error with its name, where the dynamic linker would end the process at the first call.
 *
 * Only functions of the stable interfaces of libuv 1 and OpenSSL 3, and only pointers to their types.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct uv_loop_s uv_loop;
typedef struct uv_handle_s uv_handle;
typedef struct ssl_st SSL;
typedef struct ssl_ctx_st SSL_CTX;
typedef struct ssl_method_st SSL_METHOD;
typedef struct bio_st BIO;
typedef struct bio_method_st BIO_METHOD;
typedef struct x509_st X509;
typedef struct x509_store_st X509_STORE;
typedef struct x509_store_ctx_st X509_STORE_CTX;
typedef struct evp_pkey_st EVP_PKEY;
typedef struct stack_st STACK;
typedef int password_call(char *buffer, int size, int is_writing, void *data);
typedef int alpn_call(SSL *, const uint8_t **out, uint8_t *out_length, const uint8_t *in, unsigned in_length, void *);

#define NODE_SYMBOLS(X) \
  X(int, uv_poll_init, (uv_loop *, uv_handle *, int fd)) \
  X(int, uv_poll_start, (uv_handle *, int events, void (*)(uv_handle *, int status, int events))) \
  X(void, uv_close, (uv_handle *, void (*)(uv_handle *))) \
  X(void, uv_ref, (uv_handle *)) \
  X(void, uv_unref, (uv_handle *)) \
  X(size_t, uv_handle_size, (int type)) \
  X(void *, uv_handle_get_data, (const uv_handle *)) \
  X(void, uv_handle_set_data, (uv_handle *, void *)) \
  X(unsigned long, OpenSSL_version_num, (void)) \
  X(const char *, ERR_reason_error_string, (unsigned long)) \
  X(unsigned long, ERR_get_error, (void)) \
  X(void, ERR_clear_error, (void)) \
  X(BIO_METHOD *, BIO_meth_new, (int type, const char *name)) \
  X(int, BIO_meth_set_write, (BIO_METHOD *, int (*)(BIO *, const char *, int))) \
  X(int, BIO_meth_set_read, (BIO_METHOD *, int (*)(BIO *, char *, int))) \
  X(int, BIO_meth_set_ctrl, (BIO_METHOD *, long (*)(BIO *, int, long, void *))) \
  X(BIO *, BIO_new, (const BIO_METHOD *)) \
  X(BIO *, BIO_new_mem_buf, (const void *, int)) \
  X(int, BIO_free, (BIO *)) \
  X(void, BIO_set_data, (BIO *, void *)) \
  X(void *, BIO_get_data, (BIO *)) \
  X(void, BIO_set_init, (BIO *, int)) \
  X(void, BIO_set_flags, (BIO *, int)) \
  X(void, BIO_clear_flags, (BIO *, int)) \
  X(X509 *, PEM_read_bio_X509, (BIO *, X509 **, password_call *, void *)) \
  X(EVP_PKEY *, PEM_read_bio_PrivateKey, (BIO *, EVP_PKEY **, password_call *, void *)) \
  X(void, X509_free, (X509 *)) \
  X(int, i2d_X509, (const X509 *, uint8_t **)) \
  X(void, EVP_PKEY_free, (EVP_PKEY *)) \
  X(int, X509_STORE_add_cert, (X509_STORE *, X509 *)) \
  X(int, OPENSSL_sk_num, (const STACK *)) \
  X(void *, OPENSSL_sk_value, (const STACK *, int)) \
  X(const SSL_METHOD *, TLS_server_method, (void)) \
  X(const SSL_METHOD *, TLS_client_method, (void)) \
  X(SSL_CTX *, SSL_CTX_new, (const SSL_METHOD *)) \
  X(void, SSL_CTX_free, (SSL_CTX *)) \
  X(long, SSL_CTX_ctrl, (SSL_CTX *, int, long, void *)) \
  X(uint64_t, SSL_CTX_set_options, (SSL_CTX *, uint64_t)) \
  X(int, SSL_CTX_set_ciphersuites, (SSL_CTX *, const char *)) \
  X(int, SSL_CTX_set_num_tickets, (SSL_CTX *, size_t)) \
  X(int, SSL_CTX_use_certificate, (SSL_CTX *, X509 *)) \
  X(int, SSL_CTX_use_PrivateKey, (SSL_CTX *, EVP_PKEY *)) \
  X(int, SSL_CTX_check_private_key, (const SSL_CTX *)) \
  X(X509_STORE *, SSL_CTX_get_cert_store, (const SSL_CTX *)) \
  X(int, SSL_CTX_add_client_CA, (SSL_CTX *, X509 *)) \
  X(void, SSL_CTX_set_verify, (SSL_CTX *, int, int (*)(int, X509_STORE_CTX *))) \
  X(int, SSL_CTX_set_alpn_protos, (SSL_CTX *, const uint8_t *, unsigned)) \
  X(void, SSL_CTX_set_alpn_select_cb, (SSL_CTX *, alpn_call *, void *)) \
  X(SSL *, SSL_new, (SSL_CTX *)) \
  X(void, SSL_free, (SSL *)) \
  X(void, SSL_set_bio, (SSL *, BIO *, BIO *)) \
  X(void, SSL_set_accept_state, (SSL *)) \
  X(void, SSL_set_connect_state, (SSL *)) \
  X(int, SSL_do_handshake, (SSL *)) \
  X(int, SSL_get_error, (const SSL *, int)) \
  X(int, SSL_read_ex, (SSL *, void *, size_t, size_t *)) \
  X(int, SSL_write_ex, (SSL *, const void *, size_t, size_t *)) \
  X(int, SSL_key_update, (SSL *, int)) \
  X(int, SSL_shutdown, (SSL *)) \
  X(long, SSL_get_verify_result, (const SSL *)) \
  X(X509 *, SSL_get1_peer_certificate, (const SSL *)) \
  X(STACK *, SSL_get_peer_cert_chain, (const SSL *)) \
  X(void, SSL_get0_alpn_selected, (const SSL *, const uint8_t **, unsigned *)) \
  X(int, SSL_select_next_proto, (uint8_t **, uint8_t *, const uint8_t *, unsigned, const uint8_t *, unsigned)) \
  X(int, SSL_session_reused, (const SSL *))

typedef struct {
#define X(result, name, arguments) result(*name) arguments;
  NODE_SYMBOLS(X)
#undef X
} node_symbols;

extern node_symbols node;

/* NULL, or what this Node lacks, in words that last as long as the process. Any thread may call it, any number of times. */
const char *find_node_symbols(void);
