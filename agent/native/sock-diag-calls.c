/* Between JavaScript and sock-diag.c. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <string.h>

#include "ask.h"
#include "node-values.h"
#include "sock-diag.h"

/* IP literals of one family: local ip, port, remote ip, port, cookie (0n: of any socket). */
static bool read_connection_name(napi_env env, const napi_value *args, connection_name *out) {
  char local_text[INET6_ADDRSTRLEN + 1], remote_text[INET6_ADDRSTRLEN + 1];
  int32_t local_port, remote_port;
  uint64_t cookie;
  bool is_lossless;
  if (!read_text(env, args[0], local_text, sizeof local_text) || !read_int(env, args[1], &local_port) ||
      !read_text(env, args[2], remote_text, sizeof remote_text) || !read_int(env, args[3], &remote_port))
    return false;
  if (napi_get_value_bigint_uint64(env, args[4], &cookie, &is_lossless) != napi_ok) {
    napi_throw_type_error(env, NULL, "culvert.node: expected a bigint");
    return false;
  }
  memset(out, 0, sizeof *out);
  out->family = strchr(local_text, ':') == NULL ? AF_INET : AF_INET6;
  out->local_port = htons((uint16_t)local_port);
  out->remote_port = htons((uint16_t)remote_port);
  out->cookie[0] = cookie == 0 ? ANY_COOKIE : (uint32_t)cookie;
  out->cookie[1] = cookie == 0 ? ANY_COOKIE : (uint32_t)(cookie >> 32);
  if (inet_pton(out->family, local_text, &out->local) == 1 && inet_pton(out->family, remote_text, &out->remote) == 1)
    return true;
  throw_failure(env, (failure){"parse two addresses of one family", EINVAL});
  return false;
}

static void set_end(struct sockaddr_storage *out, int family, const struct in6_addr *address, in_port_t port) {
  struct sockaddr_in *v4 = (struct sockaddr_in *)out;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
  out->ss_family = (sa_family_t)family;
  memcpy(family == AF_INET6 ? (void *)&v6->sin6_addr : (void *)&v4->sin_addr, address, family == AF_INET6 ? 16 : 4);
  if (family == AF_INET6) v6->sin6_port = port;
  else v4->sin_port = port;
}

/* findSocket(fd, local ip, port, remote ip, port, cookie | 0n) -> [cookie, state, ms until its probe | -1] | null */
static napi_value find_socket(napi_env env, napi_callback_info info) {
  napi_value args[6], result, value;
  int32_t fd;
  connection_name name;
  connection_report found;
  if (!read_arguments(env, info, 6, args) || !read_int(env, args[0], &fd) || !read_connection_name(env, args + 1, &name))
    return NULL;
  failure outcome = ask_about_connection(fd, &name, &found);
  if (outcome.step != NULL) return throw_failure(env, outcome);
  if (!found.is_known) {
    napi_get_null(env, &result);
    return result;
  }
  napi_create_array_with_length(env, 3, &result);
  napi_create_bigint_uint64(env, (uint64_t)found.cookie[1] << 32 | found.cookie[0], &value);
  napi_set_element(env, result, 0, value);
  napi_create_int32(env, found.state, &value);
  napi_set_element(env, result, 1, value);
  napi_create_int64(env, found.probes_in_ms, &value);
  napi_set_element(env, result, 2, value);
  return result;
}

/* abortSocket(fd, local ip, port, remote ip, port, cookie) -> whether it was there */
static napi_value abort_socket(napi_env env, napi_callback_info info) {
  napi_value args[6], result;
  int32_t fd;
  connection_name name;
  if (!read_arguments(env, info, 6, args) || !read_int(env, args[0], &fd) || !read_connection_name(env, args + 1, &name))
    return NULL;
  if (name.cookie[0] == ANY_COOKIE) return throw_failure(env, (failure){"end a socket without its cookie", EINVAL});
  act_request what = {.act = ACT_ABORT_CONNECTION, .cookie = {name.cookie[0], name.cookie[1]}};
  act_reply reply;
  set_end(&what.local, name.family, &name.local, name.local_port);
  set_end(&what.remote, name.family, &name.remote, name.remote_port);
  failure outcome = ask_about(&what, &fd, 1, &reply);
  if (outcome.step != NULL) return throw_failure(env, outcome);
  napi_get_boolean(env, reply.value == 1, &result);
  return result;
}

void add_sock_diag(napi_env env, napi_value exports) {
  const napi_property_descriptor functions[] = {
      FUNCTION("findSocket", find_socket),
      FUNCTION("abortSocket", abort_socket),
  };
  ADD_FUNCTIONS(env, exports, functions);
}
