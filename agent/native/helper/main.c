/*
 * culvert-helper: the part of the agent that has capabilities. It makes sockets in the namespaces of workloads, asks the
 * kernel, and runs the programs that load rules, each on request of an agent that has none of these rights. It reads no byte
 * of the network. A request has a fixed size and is refused unless it is on the list (allowed.c, rule-programs.c).
 *
 *   culvert-helper --channel FD [FILE]  serves one agent, which has the other end, and ends with it; reads FILE for it
 *   culvert-helper --listen UID         serves the agents of a user on the socket that systemd passes (sd_listen_fds(3))
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "allowed.h"
#include "clients.h"
#include "keep-capabilities.h"
#include "run-program.h"

#define FIRST_PASSED_FD 3

/* The acts take the first two. The others are for programs and places that a host has, and are kept where they are given. */
static const uint64_t kept_capabilities = CAPABILITY(CAP_NET_ADMIN) | CAPABILITY(CAP_SYS_ADMIN) | CAPABILITY(CAP_NET_RAW) |
                                          CAPABILITY(CAP_NET_BIND_SERVICE) | CAPABILITY(CAP_SYS_PTRACE) |
                                          CAPABILITY(CAP_DAC_OVERRIDE) | CAPABILITY(CAP_SYS_MODULE);

static helper_limits limits = {0, ""};
static uid_t served_user;
/* It also is the parent of those that serve clients of a listener. */
static pid_t main_process;

/*
 * Directories of other users are on the way to namespaces of their processes, which take SYS_PTRACE to see. Without that, as in
 * a pod, there are only those of root.
 */
static bool give_up_the_rest(void) {
  uint64_t found;
  if (!read_capabilities(&found)) return false;
  const bool sees_others = (found & CAPABILITY(CAP_SYS_PTRACE)) != 0;
  return keep_capabilities(sees_others ? kept_capabilities : kept_capabilities & ~CAPABILITY(CAP_DAC_OVERRIDE));
}

static void refuse(act_reply *reply, const char *why) {
  reply->number = EPERM;
  snprintf(reply->step, sizeof reply->step, "the privileged helper refuses %s", why);
  fprintf(stderr, "{\"level\":\"warn\",\"name\":\"culvert-helper\",\"msg\":\"refused %s\"}\n", why);
}

static void answer(const act_request *what, const int *fds, size_t count, act_reply *reply, made_fds *made) {
  static int own_netns = -1;
  memset(reply, 0, REPLY_HEAD);
  made->count = 0;
  const char *refusal = refusal_of(what, fds, count, &limits);
  failure result = {NULL, 0};
  if (refusal == NULL)
    result = what->act == ACT_RUN_PROGRAM ? run_program(what, fds, limits.own_inode, &refusal)
                                          : perform(what, fds, count, &own_netns, reply, made);
  if (refusal != NULL) refuse(reply, refusal);
  else if (result.step != NULL) {
    reply->length = 0;
    reply->number = result.number == 0 ? EIO : result.number;
    snprintf(reply->step, sizeof reply->step, "%s", result.step);
  } else if (what->act == ACT_PING) {
    reply->value = main_process;
  }
}

/* False: the client has gone, or does not keep to the format. */
static bool serve(int channel) {
  act_request what;
  static act_reply reply;
  static made_fds made;
  int fds[MAX_REQUEST_FDS];
  size_t count;
  ssize_t length = receive_packet(channel, &what, sizeof what, fds, MAX_REQUEST_FDS, &count, MSG_DONTWAIT);
  if (length < 0 && (errno == EAGAIN || errno == EMFILE)) return errno == EAGAIN;
  bool is_whole = length == (ssize_t)sizeof what;
  if (is_whole) {
    answer(&what, fds, count, &reply, &made);
    is_whole = send_packet(channel, &reply, REPLY_HEAD + reply.length, made.fds, made.count, MSG_DONTWAIT) >= 0;
    for (size_t at = 0; at < made.count; at++) close(made.fds[at]);
  }
  close_received(fds, count);
  return is_whole;
}

/* So that poll(2) is interrupted. */
static void forget_one(int number) { (void)number; }

static int serve_client(int channel) {
  struct pollfd client = {.fd = channel, .events = POLLIN};
  for (;;) {
    const int ready = poll(&client, 1, -1);
    const bool is_interrupted = ready < 0 && errno == EINTR;
    forget_ended_programs();
    if (is_interrupted) continue;
    if (ready < 0) return 1;
    if (!serve(channel)) return 0;
  }
}

static bool is_packet_socket(int fd, bool listens) {
  int type = 0, accepts = 0;
  socklen_t size = sizeof(int);
  return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET &&
         getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &size) == 0 && (accepts != 0) == listens;
}

/* A name or a number; false for what is neither. */
static bool read_user(const char *text, uid_t *out) {
  const struct passwd *found = getpwnam(text);
  char *end = NULL;
  *out = found != NULL ? found->pw_uid : (uid_t)strtoul(text, &end, 10);
  return found != NULL || (*text != '\0' && *end == '\0');
}

/*
 * For the programs that it runs: no libraries, modules or options of an environment, and programs only from directories with
 * an absolute name. What starts the helper may name some; a unit's PATH may lack those for administration.
 */
static bool reduce_environment(void) {
  const char *given = getenv("PATH");
  char *whole = NULL, *rest = given == NULL ? NULL : strdup(given);
  size_t size;
  FILE *text = open_memstream(&whole, &size);
  if (text == NULL || (given != NULL && rest == NULL)) return false;
  for (char *next = rest, *each; (each = strsep(&next, ":")) != NULL;)
    if (each[0] == '/') fprintf(text, "%s:", each);
  fputs("/usr/sbin:/sbin:/usr/bin:/bin", text);
  const bool is_written = fclose(text) == 0;
  return is_written && clearenv() == 0 && setenv("PATH", whole, 1) == 0 && setenv("LC_ALL", "C", 1) == 0;
}

int main(int argc, char **argv) {
  const bool listens = argc == 3 && strcmp(argv[1], "--listen") == 0;
  struct stat own;
  const bool is_known = listens || ((argc == 3 || argc == 4) && strcmp(argv[1], "--channel") == 0);
  if (!is_known || (listens && !read_user(argv[2], &served_user))) {
    fprintf(stderr, "usage: culvert-helper --channel FD [FILE] | --listen USER\n");
    return 64;
  }
  if (stat("/proc/self/ns/net", &own) != 0) {
    perror("culvert-helper: /proc/self/ns/net");
    return 1;
  }
  limits.own_inode = own.st_ino;
  if (argc == 4) limits.token_file = argv[3];
  if (!reduce_environment()) {
    perror("culvert-helper: the environment");
    return 1;
  }
  main_process = getpid();
  if (!give_up_the_rest()) {
    perror("culvert-helper: giving up capabilities");
    return 1;
  }
  signal(SIGPIPE, SIG_IGN);
  const struct sigaction ended = {.sa_handler = forget_one};
  sigaction(SIGCHLD, &ended, NULL);
  const int channel = listens ? FIRST_PASSED_FD : atoi(argv[2]);
  /* No program that it runs gets it. */
  if (!is_packet_socket(channel, listens) || fcntl(channel, F_SETFD, FD_CLOEXEC) != 0) {
    fprintf(stderr, "culvert-helper: descriptor %d is no %s socket for packets\n", channel, listens ? "listening" : "connected");
    return 1;
  }
  if (listens) return serve_listener(channel, served_user, serve_client);
  /* The agent ends it, by its own end: a signal to their process group must not come before. */
  signal(SIGINT, SIG_IGN);
  signal(SIGTERM, SIG_IGN);
  signal(SIGHUP, SIG_IGN);
  return serve_client(channel);
}
