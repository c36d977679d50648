import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const native = fileURLToPath(new URL('../../../../agent/native/', import.meta.url));

/**
 * A client of the privileged helper that sends what no agent does. It starts the helper, and prints a line for each attempt:
 * its name, and the errno of the helper's answer, or -1 where there was none within 30 s.
 */
const source = String.raw`
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "request.h"

static int channel;
static act_reply reply;

static int ask(const act_request *what, const int *fds, size_t count, int *out) {
  int received[MAX_REQUEST_FDS];
  size_t given = 0;
  struct pollfd wait = {.fd = channel, .events = POLLIN};
  if (send_packet(channel, what, sizeof *what, fds, count, 0) < 0 || poll(&wait, 1, 30000) != 1) return -1;
  if (receive_packet(channel, &reply, sizeof reply, received, MAX_REQUEST_FDS, &given, 0) <= 0) return -1;
  if (out != NULL) *out = given == 1 ? received[0] : -1;
  return reply.number;
}
static int ask_act(act which, const int *fds, size_t count, int *out) {
  const act_request what = {.act = which};
  return ask(&what, fds, count, out);
}
static void say(const char *name, int number) { printf("%s %d\n", name, number); fflush(stdout); }

static void start(const char *helper, const char *how, const char *user, int theirs) {
  if (fork() != 0) return;
  dup2(theirs, 3);
  if (user == NULL) execl(helper, helper, how, "3", (char *)NULL);
  execl(helper, helper, how, user, (char *)NULL);
  _exit(1);
}

/* With bytes that its peer never reads, and told to wait for that. */
static int lingering_socket(void) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof at;
  const struct linger long_time = {1, 3600};
  static char bytes[65536];
  int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
  bind(listener, (void *)&at, sizeof at);
  listen(listener, 1);
  getsockname(listener, (void *)&at, &size);
  connect(fd, (void *)&at, sizeof at);
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &long_time, sizeof long_time);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  while (send(fd, bytes, sizeof bytes, MSG_NOSIGNAL) > 0) continue;
  return fd;
}

static int payload(unsigned seals) {
  static const char text[] = "iptables\0-V\0";
  int fd = memfd_create("payload", MFD_ALLOW_SEALING);
  if (write(fd, text, sizeof text) < 0) return -1;
  fcntl(fd, F_ADD_SEALS, seals);
  return fd;
}
#define ALL_SEALS (F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK)

static int null_pipe(void) {
  int pair[2];
  return pipe(pair) == 0 ? pair[1] : -1;
}
static int full_pipe(void) {
  int fd = null_pipe();
  fcntl(fd, F_SETPIPE_SZ, 4096);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  while (write(fd, "x", 1) == 1) continue;
  fcntl(fd, F_SETFL, 0);
  return fd;
}
static int run(int file, int output, int errors, int code) {
  const int fds[] = {file, output, errors, code};
  return ask_act(ACT_RUN_PROGRAM, fds, 4, NULL);
}

static void attack(void) {
  int fd = lingering_socket(), pair[2], out = -1;
  say("extra", ask_act(ACT_PING, &fd, 1, NULL));
  close(fd);
  say("after-linger", ask_act(ACT_PING, NULL, 0, NULL));
  fd = socket(AF_INET, SOCK_STREAM, 0);
  say("transparent", ask_act(ACT_MAKE_TRANSPARENT, &fd, 1, NULL));
  ask_act(ACT_OPEN_SOCK_DIAG, NULL, 0, &out);
  act_request end = {.act = ACT_ABORT_CONNECTION, .cookie = {1, 1}};
  end.local.ss_family = end.remote.ss_family = AF_INET;
  say("abort", ask(&end, &out, 1, NULL));
  say("unsealed", run(payload(0), null_pipe(), null_pipe(), null_pipe()));
  say("half-sealed", run(payload(F_SEAL_GROW | F_SEAL_SHRINK), null_pipe(), null_pipe(), null_pipe()));
  socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
  say("socket", run(payload(ALL_SEALS), pair[0], null_pipe(), null_pipe()));
  say("socket-for-code", run(payload(ALL_SEALS), null_pipe(), null_pipe(), pair[0]));
  say("netlink", run(payload(ALL_SEALS), out, null_pipe(), null_pipe()));
  /* Each ends when it finds no place for its code, and so there are always places. */
  int started = 0;
  for (int tries = 0; started < 80 && tries < 1200; tries++) {
    int fds[] = {payload(ALL_SEALS), null_pipe(), null_pipe(), full_pipe()};
    int number = run(fds[0], fds[1], fds[2], fds[3]);
    for (int at = 0; at < 4; at++) close(fds[at]);
    if (number == 0) started++;
    else if (number != EAGAIN) break;
    else poll(NULL, 0, 50);
  }
  say("never-stuck", started == 80 ? 0 : EAGAIN);
  /* As many as there is room for with the padding of the helper's buffer: one more than a request has. The client is let go. */
  const int many[] = {out, out, out, out, out, out};
  say("six", ask_act(ACT_PING, many, 6, NULL));
}

static int connect_to(const struct sockaddr_un *at) {
  int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
  return connect(fd, (const void *)at, sizeof *at) == 0 ? fd : -1;
}

/* One process that takes all the places, and its successor. */
static void crowd(const struct sockaddr_un *at) {
  int first = connect_to(at), child, done[2];
  char byte;
  channel = first;
  say("first", ask_act(ACT_PING, NULL, 0, NULL));
  const int64_t helper = reply.value;
  if (pipe(done) != 0) return;
  if ((child = fork()) == 0) {
    for (int count = 0; count < 100; count++) {
      channel = connect_to(at);
      if (ask_act(ACT_PING, NULL, 0, NULL) != 0) _exit(1);
    }
    if (write(done[1], "x", 1) == 1) pause();
    _exit(1);
  }
  close(done[1]);
  say("crowded", read(done[0], &byte, 1) == 1 ? 0 : EIO);
  for (int count = 0; count < 10; count++) {
    channel = connect_to(at);
    int number = ask_act(ACT_PING, NULL, 0, NULL);
    if (number != 0 || count == 9) say("next", number);
    close(channel);
  }
  channel = first;
  say("first-again", ask_act(ACT_PING, NULL, 0, NULL));
  say("same-helper", helper == reply.value ? 0 : 1);
  kill(child, SIGKILL);
}

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  if (argc == 4) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    strcpy(at.sun_path, argv[3]);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    if (bind(listener, (void *)&at, sizeof at) != 0 || listen(listener, 200) != 0) return 1;
    start(argv[1], "--listen", argv[2], listener);
    crowd(&at);
  } else {
    int pair[2];
    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
    channel = pair[0];
    start(argv[1], "--channel", NULL, pair[1]);
    close(pair[1]);
    attack();
  }
  signal(SIGTERM, SIG_IGN);
  kill(0, SIGTERM);
  return 0;
}
`;

/** A library that tries system calls when it is loaded, also in a process that starts no program. */
const probeSource = String.raw`
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
static int of(long result) { return result < 0 ? errno : 0; }
static int of_clone(unsigned long flags) {
  long child = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
  if (child == 0) _exit(0);
  return of(child);
}
__attribute__((constructor)) static void probe(void) {
  char text[512];
  int count = snprintf(text, sizeof text,
    "{\"user\":%d,\"net\":%d,\"clone3\":%d,\"plain\":%d,\"uring\":%d,\"fsopen\":%d,\"pidfd\":%d,"
    "\"packet\":%d,\"vsock\":%d,\"udp\":%d,\"dumpable\":%d}",
    of_clone(CLONE_NEWUSER | CLONE_NEWNET), of_clone(CLONE_NEWNET), of(syscall(435, NULL, 0)), of_clone(0),
    of(syscall(425, 0, NULL)), of(syscall(430, NULL, 0)), of(syscall(438, -1, -1, 0)), of(socket(AF_PACKET, SOCK_RAW, 0)),
    of(socket(AF_VSOCK, SOCK_STREAM, 0)), of(socket(AF_INET, SOCK_DGRAM, 0)), prctl(PR_GET_DUMPABLE));
  if (write(atoi(getenv("PROBE_FD")), text, count) != count) _exit(1);
}
`;

/** Builds the client, and the library that tries system calls, in a directory of the caller. */
export function buildHostile(directory: string): { readonly client: string; readonly probe: string } {
  const client = join(directory, 'hostile-client');
  const probe = join(directory, 'probe.so');
  writeFileSync(`${client}.c`, source);
  writeFileSync(`${probe}.c`, probeSource);
  execFileSync('gcc', ['-O1', `-I${native}`, '-o', client, `${client}.c`, join(native, 'packets.c')]);
  execFileSync('gcc', ['-O1', '-shared', '-fPIC', '-o', probe, `${probe}.c`]);
  return { client, probe };
}
