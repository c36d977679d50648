/*
 * Sockets to dial with. What needs capabilities is done when they are made, in a namespace and several at a time; what belongs
 * to one dial needs none, and is done here: a transparent socket binds to any address.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "ask.h"
#include "node-values.h"

/* From the kernel's headers linux/in.h and linux/in6.h, which do not mix with libc's. */
#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif
/* Since Linux 6.3. */
#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif
#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif

static bool set_option(int fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof value) == 0;
}

/*
 * Asks for one port at connect. A bind to the port would keep it from every other dial in the namespace, and many clients'
 * ports together would use up the range; a port that connect chooses is shared by all destinations. The kernel ignores a
 * port outside the namespace's own ip_local_port_range, so no application loses a port that it could count on; connect
 * fails with EADDRNOTAVAIL when the port is taken. SO_REUSEADDR lets a server with the same option bind the port meanwhile.
 */
static failure wish_for_port(int fd, uint16_t port) {
  const uint32_t range = (uint32_t)port << 16 | port;
  if (setsockopt(fd, SOL_IP, IP_LOCAL_PORT_RANGE, &range, sizeof range) != 0)
    return errno == ENOPROTOOPT ? success : failed("set IP_LOCAL_PORT_RANGE");
  return set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) ? success : failed("set SO_REUSEADDR");
}

static failure borrow(int fd, const struct sockaddr_storage *source, uint16_t port) {
  const socklen_t length = source->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
  /* The kernel then chooses the port at connect, per destination. Otherwise all destinations would share 28,000
   * ports. */
  if (!set_option(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)) return failed("set IP_BIND_ADDRESS_NO_PORT");
  if (bind(fd, (const struct sockaddr *)source, length) != 0) return failed("bind the source address");
  return port == 0 ? success : wish_for_port(fd, port);
}

/* dialSockets(netnsFd | -1, family 4 | 6, mark, transparent, count) -> fds: as many, or at least one */
static napi_value dial_sockets(napi_env env, napi_callback_info info) {
  napi_value args[5], result, element;
  int32_t netns_fd, family, mark, count;
  act_request what = {.act = ACT_DIAL};
  made_fds made;
  if (!read_arguments(env, info, 5, args) || !read_int(env, args[0], &netns_fd) || !read_int(env, args[1], &family) ||
      !read_int(env, args[2], &mark) || !read_bool(env, args[3], &what.is_transparent) || !read_int(env, args[4], &count))
    return NULL;
  what.local.ss_family = family == 6 ? AF_INET6 : AF_INET;
  what.mark = (uint32_t)mark;
  what.sockets = (uint8_t)(count < 1 || count > MAX_DIALS ? 0 : count);
  failure outcome = ask_for_fds(&what, netns_fd, &made);
  if (outcome.step != NULL) return throw_failure(env, outcome);
  napi_create_array_with_length(env, made.count, &result);
  for (uint32_t at = 0; at < made.count; at++) {
    napi_create_int32(env, made.fds[at], &element);
    napi_set_element(env, result, at, element);
  }
  return result;
}

/* dialFrom(fd, family 4 | 6, source, sourcePort | 0): of a transparent socket of that family that is not bound */
static napi_value dial_from(napi_env env, napi_callback_info info) {
  napi_value args[4];
  int32_t fd, family, port;
  char source[INET6_ADDRSTRLEN + 1];
  struct sockaddr_storage at;
  if (!read_arguments(env, info, 4, args) || !read_int(env, args[0], &fd) || !read_int(env, args[1], &family) ||
      !read_text(env, args[2], source, sizeof source) || !read_int(env, args[3], &port))
    return NULL;
  if (!parse_address(source, 0, &at) || at.ss_family != (family == 6 ? AF_INET6 : AF_INET))
    return throw_failure(env, (failure){"parse the source address of this family", EINVAL});
  failure outcome = borrow(fd, &at, (uint16_t)port);
  return outcome.step == NULL ? NULL : throw_failure(env, outcome);
}

/* dialPlain(fd, family 4 | 6): of a socket that was made transparent; it dials from an address of its namespace */
static napi_value dial_plain(napi_env env, napi_callback_info info) {
  napi_value args[2];
  int32_t fd, family;
  if (!read_arguments(env, info, 2, args) || !read_int(env, args[0], &fd) || !read_int(env, args[1], &family)) return NULL;
  const bool ok = family == 6 ? set_option(fd, SOL_IPV6, IPV6_TRANSPARENT, 0) : set_option(fd, SOL_IP, IP_TRANSPARENT, 0);
  return ok ? NULL : throw_failure(env, failed("clear IP_TRANSPARENT"));
}

void add_dials(napi_env env, napi_value exports) {
  const napi_property_descriptor functions[] = {
      FUNCTION("dialSockets", dial_sockets),
      FUNCTION("dialFrom", dial_from),
      FUNCTION("dialPlain", dial_plain),
  };
  ADD_FUNCTIONS(env, exports, functions);
}
