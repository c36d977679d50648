/*
 * One line to the agent of this node, and one line back (agent/control/cni/cni-socket.ts is the other side). Nothing here
 * blocks longer than until the deadline, also not a connect to a queue that is full.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX_REQUEST 4096
#define MAX_ANSWER 4096

int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* False: the time is over. */
static bool wait_for(int fd, short events, int64_t deadline) {
  for (;;) {
    const int64_t left = deadline - now_ms();
    struct pollfd on = {.fd = fd, .events = events};
    if (left <= 0) return false;
    const int ready = poll(&on, 1, left > 60000 ? 60000 : (int)left);
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

static int connect_to(const char *path) {
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof to.sun_path) return -1;
  strcpy(to.sun_path, path);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) == 0) return fd;
  close(fd);
  return -1;
}

static bool send_all(int fd, const char *text, size_t length, int64_t deadline) {
  while (length > 0) {
    const ssize_t sent = send(fd, text, length, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && (errno != EAGAIN || !wait_for(fd, POLLOUT, deadline))) return false;
    if (sent <= 0) continue;
    text += sent;
    length -= (size_t)sent;
  }
  return true;
}

/* One line, without its end. False: another one, or none in time. */
static bool receive_line(int fd, char *out, size_t size, size_t *length, int64_t deadline) {
  for (*length = 0; *length < size;) {
    const ssize_t got = recv(fd, out + *length, size - *length, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN && wait_for(fd, POLLIN, deadline)) continue;
    if (got <= 0) return false;
    *length += (size_t)got;
    char *end = memchr(out, '\n', *length);
    if (end == NULL) continue;
    const bool is_last = end + 1 == out + *length;
    *length = (size_t)(end - out);
    return is_last;
  }
  return false;
}

static agent_answer read_answer(json_span line, char problem[MAX_PROBLEM]) {
  char outcome[32];
  json_span value;
  if (!is_json(line) || find_member(line, "outcome", &value) != JSON_FOUND || !read_json_text(value, outcome, sizeof outcome))
    return AGENT_AWAY;
  if (strcmp(outcome, "captured") == 0) return AGENT_CAPTURED;
  if (strcmp(outcome, "notEnrolled") == 0) return AGENT_NOT_ENROLLED;
  if (strcmp(outcome, "failed") != 0) return AGENT_AWAY;
  if (find_member(line, "problem", &value) != JSON_FOUND || !read_json_text(value, problem, MAX_PROBLEM))
    strcpy(problem, "it does not say why");
  return AGENT_FAILED;
}

agent_answer ask_agent(const invocation *about, const char *command, int64_t deadline, char problem[MAX_PROBLEM]) {
  char request[MAX_REQUEST], line[MAX_ANSWER];
  size_t length = 0;
  const int64_t left = deadline - now_ms();
  const int fd = left > 0 ? connect_to(about->socket) : -1;
  if (fd < 0) return AGENT_AWAY;
  /* No text in it needs an escape: copy_plain and read_environment took none that does. */
  const int size = snprintf(request, sizeof request,
                            "{\"version\":1,\"command\":\"%s\",\"timeoutMs\":%ld,\"containerId\":\"%s\",\"netns\":\"%s\","
                            "\"interface\":\"%s\",\"pod\":{\"namespace\":\"%s\",\"name\":\"%s\",\"uid\":\"%s\"}}\n",
                            command, (long)left, about->container, about->netns, about->interface, about->pod_namespace,
                            about->pod_name, about->pod_uid);
  const bool is_answered = size > 0 && (size_t)size < sizeof request && send_all(fd, request, (size_t)size, deadline) &&
                           receive_line(fd, line, sizeof line, &length, deadline);
  close(fd);
  return is_answered ? read_answer((json_span){line, length}, problem) : AGENT_AWAY;
}
