#define _GNU_SOURCE
#include "ask.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#define NO_HELPER (-1)
#define LOST (-2)
/* A helper that does not answer within this time counts as dead. No request waits for anything but the kernel. */
#define ANSWER_TIMEOUT_S 10

/* One for all threads of the process. A lost helper stays lost: its answers could be to other questions. */
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static int channel = NO_HELPER;
/* Where to look again for one that was lost; empty: nowhere. */
static struct sockaddr_un lost_place;
static _Thread_local int own_netns = -1;

void close_own_netns(void *unused) {
  (void)unused;
  if (own_netns >= 0) close(own_netns);
  own_netns = -1;
}

static failure lost(void) { return (failure){"ask the privileged helper, which has ended", EPIPE}; }

static failure connect_to(const struct sockaddr_un *at, int *fd) {
  *fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (*fd < 0) return failed("create a socket");
  if (connect(*fd, (const struct sockaddr *)at, sizeof *at) == 0) return success;
  failure result = failed("connect to the privileged helper");
  close(*fd);
  return result;
}

static failure limit_waiting(int fd) {
  const struct timeval timeout = {.tv_sec = ANSWER_TIMEOUT_S};
  return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) == 0 &&
                 setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) == 0
             ? success
             : failed("set a timeout");
}

static void find_again(void) {
  int fd;
  if (connect_to(&lost_place, &fd).step != NULL) return;
  if (limit_waiting(fd).step == NULL) channel = fd;
  else close(fd);
}

static void lose_channel(void) {
  close(channel);
  channel = LOST;
}

static void close_made(made_fds *made) {
  for (size_t at = 0; at < made->count; at++) close(made->fds[at]);
  made->count = 0;
}

static failure exchange(const act_request *what, const int *fds, size_t count, act_reply *reply, made_fds *made) {
  if (send_packet(channel, what, sizeof *what, fds, count, 0) < 0) {
    if (errno == ETOOMANYREFS || errno == EBADF) return failed("pass descriptors to the privileged helper");
    lose_channel();
    return lost();
  }
  ssize_t length = receive_packet(channel, reply, sizeof *reply, made->fds, MAX_DIALS, &made->count, 0);
  /* The reply is read, and its descriptors had no place here. */
  if (length < 0 && errno == EMFILE) return failed("take a descriptor from the privileged helper");
  const size_t most = what->act == ACT_DIAL ? what->sockets : 1;
  if (length < (ssize_t)REPLY_HEAD || (size_t)length != REPLY_HEAD + reply->length || made->count > most) {
    close_made(made);
    lose_channel();
    return lost();
  }
  if (reply->number == 0) return success;
  close_made(made);
  static _Thread_local char step[MAX_STEP];
  memcpy(step, reply->step, sizeof step);
  step[sizeof step - 1] = '\0';
  return (failure){step, reply->number};
}

static failure ask_either(const act_request *what, const int *fds, size_t count, act_reply *reply, made_fds *made) {
  pthread_mutex_lock(&turn);
  if (channel == NO_HELPER) {
    pthread_mutex_unlock(&turn);
    return perform(what, fds, count, &own_netns, reply, made);
  }
  if (channel == LOST && lost_place.sun_path[0] != '\0') find_again();
  failure result = channel == LOST ? lost() : exchange(what, fds, count, reply, made);
  pthread_mutex_unlock(&turn);
  return result;
}

failure ask_in(const act_request *what, int netns_fd, const int *fds, size_t count, act_reply *reply, made_fds *made) {
  act_reply unread;
  made_fds unwanted;
  int all[MAX_REQUEST_FDS];
  size_t used = 0;
  made_fds *into = made == NULL ? &unwanted : made;
  into->count = 0;
  act_request whole = *what;
  whole.has_netns = netns_fd >= 0;
  if (whole.has_netns) all[used++] = netns_fd;
  for (size_t at = 0; at < count && used < MAX_REQUEST_FDS; at++) all[used++] = fds[at];
  failure result = ask_either(&whole, all, used, reply == NULL ? &unread : reply, into);
  if (made == NULL) close_made(into);
  return result;
}

failure ask_about(const act_request *what, const int *fds, size_t count, act_reply *reply) {
  return ask_in(what, -1, fds, count, reply, NULL);
}

failure ask_for_fds(const act_request *what, int netns_fd, made_fds *made) {
  failure result = ask_in(what, netns_fd, NULL, 0, NULL, made);
  return result.step == NULL && made->count == 0 ? (failure){"get a descriptor from the privileged helper", EPROTO} : result;
}

napi_value ask_for_fd(napi_env env, act_request *what, int netns_fd) {
  made_fds made;
  failure result = ask_for_fds(what, netns_fd, &made);
  return fd_result(env, made.count == 0 ? -1 : made.fds[0], result);
}

napi_value open_in_namespace(napi_env env, napi_callback_info info, act which) {
  napi_value args[1];
  int32_t netns_fd;
  act_request what = {.act = which};
  if (!read_arguments(env, info, 1, args) || !read_int(env, args[0], &netns_fd)) return NULL;
  return ask_for_fd(env, &what, netns_fd);
}

failure read_ends(int fd, act_request *what) {
  socklen_t local_length = sizeof what->local, remote_length = sizeof what->remote;
  return getsockname(fd, (struct sockaddr *)&what->local, &local_length) == 0 &&
                 getpeername(fd, (struct sockaddr *)&what->remote, &remote_length) == 0
             ? success
             : failed("read the addresses");
}

bool parse_address(const char *host, uint16_t port, struct sockaddr_storage *out) {
  memset(out, 0, sizeof *out);
  struct sockaddr_in *v4 = (struct sockaddr_in *)out;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
  if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    return true;
  }
  if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    return true;
  }
  return false;
}

bool read_request_text(napi_env env, napi_value value, act_request *out) {
  if (!read_text(env, value, out->text, sizeof out->text)) return false;
  out->length = (uint32_t)strlen(out->text) + 1;
  return true;
}

/*
 * useHelper(fd | -1, path, isFoundAgain): from now on, and for all threads of the process. The descriptor becomes the addon's.
 * `isFoundAgain`: one that is lost is looked for again at the path, for the next request.
 */
static napi_value use_helper(napi_env env, napi_callback_info info) {
  napi_value args[3];
  int32_t fd;
  bool is_found_again;
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  if (!read_arguments(env, info, 3, args) || !read_int(env, args[0], &fd) ||
      !read_text(env, args[1], at.sun_path, sizeof at.sun_path) || !read_bool(env, args[2], &is_found_again))
    return NULL;
  failure result = fd < 0 ? connect_to(&at, &fd) : success;
  if (result.step == NULL) result = limit_waiting(fd);
  if (result.step != NULL) return throw_failure(env, result);
  pthread_mutex_lock(&turn);
  channel = fd;
  if (is_found_again) lost_place = at;
  pthread_mutex_unlock(&turn);
  return NULL;
}

/* pingHelper() -> process id of the helper; throws when it is gone */
static napi_value ping_helper(napi_env env, napi_callback_info info) {
  (void)info;
  napi_value result;
  const act_request what = {.act = ACT_PING};
  act_reply reply;
  failure outcome = ask_about(&what, NULL, 0, &reply);
  if (outcome.step != NULL) return throw_failure(env, outcome);
  napi_create_int64(env, reply.value, &result);
  return result;
}

/* helperPair() -> [fd, fd]: two ends of a channel, closed on exec */
static napi_value helper_pair(napi_env env, napi_callback_info info) {
  (void)info;
  int pair[2];
  napi_value result, element;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
    return throw_failure(env, failed("create a socket pair"));
  napi_create_array_with_length(env, 2, &result);
  for (uint32_t at = 0; at < 2; at++) {
    napi_create_int32(env, pair[at], &element);
    napi_set_element(env, result, at, element);
  }
  return result;
}

static failure write_all(int fd, const char *bytes, size_t length) {
  for (size_t at = 0; at < length;) {
    ssize_t count = write(fd, bytes + at, length - at);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failed("write what a program gets");
    at += (size_t)count;
  }
  return success;
}

/* What a program of the helper writes to: this end is Node's, which wants it not to block. */
static failure open_pipes(int ours[3], int theirs[3]) {
  for (int at = 0; at < 3; at++) {
    int pair[2];
    if (pipe2(pair, O_CLOEXEC) != 0) return failed("create a pipe");
    ours[at] = pair[0];
    theirs[at] = pair[1];
  }
  return success;
}

/* runProgram(netnsFd | -1, payload) -> [fd of its output, of its errors, of its exit code] */
static napi_value run_program(napi_env env, napi_callback_info info) {
  napi_value args[2], result, element;
  int32_t netns_fd;
  void *payload;
  size_t length;
  if (!read_arguments(env, info, 2, args) || !read_int(env, args[0], &netns_fd)) return NULL;
  if (napi_get_buffer_info(env, args[1], &payload, &length) != napi_ok) {
    napi_throw_type_error(env, NULL, "culvert.node: expected a buffer");
    return NULL;
  }
  const act_request what = {.act = ACT_RUN_PROGRAM};
  int ours[3] = {-1, -1, -1}, theirs[3] = {-1, -1, -1};
  int file = memfd_create("culvert-program", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  failure outcome = file < 0 ? failed("create a file in memory") : write_all(file, payload, length);
  if (outcome.step == NULL && fcntl(file, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW) != 0)
    outcome = failed("seal what a program gets");
  if (outcome.step == NULL) outcome = open_pipes(ours, theirs);
  const int fds[] = {file, theirs[0], theirs[1], theirs[2]};
  if (outcome.step == NULL) outcome = ask_in(&what, netns_fd, fds, 4, NULL, NULL);
  if (file >= 0) close(file);
  for (int at = 0; at < 3; at++) {
    if (theirs[at] >= 0) close(theirs[at]);
    if (outcome.step != NULL && ours[at] >= 0) close(ours[at]);
  }
  if (outcome.step != NULL) return throw_failure(env, outcome);
  napi_create_array_with_length(env, 3, &result);
  for (uint32_t at = 0; at < 3; at++) {
    napi_create_int32(env, ours[at], &element);
    napi_set_element(env, result, at, element);
  }
  return result;
}

/* openNetnsFile(path) -> fd */
static napi_value open_netns_call(napi_env env, napi_callback_info info) {
  napi_value args[1];
  act_request what = {.act = ACT_OPEN_NETNS};
  if (!read_arguments(env, info, 1, args) || !read_request_text(env, args[0], &what)) return NULL;
  return ask_for_fd(env, &what, -1);
}

/* mayChangeEarlyDemux() -> boolean */
static napi_value may_change_early_demux(napi_env env, napi_callback_info info) {
  (void)info;
  napi_value result;
  const act_request what = {.act = ACT_MAY_CHANGE_EARLY_DEMUX};
  act_reply reply;
  failure outcome = ask_about(&what, NULL, 0, &reply);
  if (outcome.step != NULL) return throw_failure(env, outcome);
  napi_get_boolean(env, reply.value == 1, &result);
  return result;
}

/* becomeHelper(program, user): the process is the helper from then on; descriptor 3 is where it listens */
static napi_value become_helper(napi_env env, napi_callback_info info) {
  napi_value args[2];
  char file[1024], user[64];
  if (!read_arguments(env, info, 2, args) || !read_text(env, args[0], file, sizeof file) ||
      !read_text(env, args[1], user, sizeof user))
    return NULL;
  char *const argv[] = {file, "--listen", user, NULL};
  /* Node has marked it to be closed. */
  if (fcntl(3, F_SETFD, 0) != 0) return throw_failure(env, failed("take the socket of the service manager"));
  execv(file, argv);
  return throw_failure(env, failed("start culvert-helper"));
}

void add_helper(napi_env env, napi_value exports) {
  const napi_property_descriptor functions[] = {
      FUNCTION("useHelper", use_helper),
      FUNCTION("pingHelper", ping_helper),
      FUNCTION("helperPair", helper_pair),
      FUNCTION("becomeHelper", become_helper),
      FUNCTION("runProgram", run_program),
      FUNCTION("openNetnsFile", open_netns_call),
      FUNCTION("mayChangeEarlyDemux", may_change_early_demux),
  };
  ADD_FUNCTIONS(env, exports, functions);
}
