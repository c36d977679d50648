#define _GNU_SOURCE
#include "clients.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST_CLIENTS 32

typedef struct {
  /* Of the client, and of this program for it. */
  pid_t who, server;
} client;

/* The oldest first. */
static client clients[MOST_CLIENTS];
static size_t count = 0;

static void forget(size_t at) {
  count--;
  memmove(clients + at, clients + at + 1, (count - at) * sizeof clients[0]);
}

/* Also the watchers of programs whose server has ended (run-program.c). */
static void forget_ended(void) {
  for (pid_t ended; (ended = waitpid(-1, NULL, WNOHANG)) > 0;)
    for (size_t at = 0; at < count; at++)
      if (clients[at].server == ended) {
        forget(at);
        break;
      }
}

static size_t clients_of(pid_t who) {
  size_t found = 0;
  for (size_t at = 0; at < count; at++) found += clients[at].who == who;
  return found;
}

/* One that comes is never kept out: the oldest of the process that has the most goes. A client that needs it comes again. */
static void make_room(void) {
  size_t oldest = 0;
  if (count < MOST_CLIENTS) return;
  for (size_t at = 1; at < count; at++)
    if (clients_of(clients[at].who) > clients_of(clients[oldest].who)) oldest = at;
  kill(clients[oldest].server, SIGKILL);
  forget(oldest);
}

static void take_client(int listener, uid_t user, int (*serve)(int channel)) {
  struct ucred who;
  socklen_t size = sizeof who;
  const pid_t parent = getpid();
  int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 && who.uid == user) {
    make_room();
    const pid_t server = fork();
    if (server == 0) {
      close(listener);
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      _exit(getppid() == parent ? serve(fd) : 1);
    }
    if (server > 0) clients[count++] = (client){who.pid, server};
  }
  close(fd);
}

int serve_listener(int listener, uid_t user, int (*serve)(int channel)) {
  struct pollfd all = {.fd = listener, .events = POLLIN};
  /* What a server leaves stays below this process, where the agent looks for what is in the helper's cgroup. */
  prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  for (;;) {
    const int ready = poll(&all, 1, -1);
    const bool is_interrupted = ready < 0 && errno == EINTR;
    forget_ended();
    if (is_interrupted) continue;
    if (ready < 0) return 1;
    if (all.revents != 0) take_client(listener, user, serve);
  }
}
