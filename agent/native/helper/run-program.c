#define _GNU_SOURCE
#include "run-program.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../namespace-questions.h"
#include "find-holder.h"
#include "pod-sandboxes.h"
#include "rule-programs.h"

/* No iptables or ip command takes this long. One that does hangs on a lock that is never released. */
#define TIMEOUT_S 15
#define TIMEOUT_OF_KILLED_S 2
/* For one client: each has a process of its own. */
#define MOST_AT_ONCE 64
#define NOT_STARTED 127

static int running = 0;
static volatile sig_atomic_t program = 0;

static failure failed(const char *step) { return (failure){step, errno}; }
static const failure success = {NULL, 0};

void forget_ended_programs(void) {
  while (waitpid(-1, NULL, WNOHANG) > 0) running--;
}

/* What does not end by that either has its watcher end: it is stuck in the kernel. */
static void kill_program(int number) {
  (void)number;
  if (program <= 0) _exit(1);
  kill((pid_t)program, SIGKILL);
  program = 0;
  alarm(TIMEOUT_OF_KILLED_S);
}

/* All but the standard streams and these. */
static void close_others(const int *kept, size_t count) {
  const long limit = sysconf(_SC_OPEN_MAX);
  int from = 3;
  for (;;) {
    int next = -1;
    for (size_t at = 0; at < count; at++)
      if (kept[at] >= from && (next < 0 || kept[at] < next)) next = kept[at];
    const unsigned until = next < 0 ? ~0u : (unsigned)next - 1;
    if ((unsigned)from <= until && syscall(SYS_close_range, (unsigned)from, until, 0u) != 0)
      for (long fd = from; fd < limit && fd <= (long)until; fd++) close((int)fd);
    if (next < 0) return;
    from = next + 1;
  }
}

static void start(const rule_program *what, int netns, int input, int output, int errors) {
  if (netns >= 0 && setns(netns, CLONE_NEWNET) != 0) _exit(NOT_STARTED);
  if (dup2(input, 0) < 0 || dup2(output, 1) < 0 || dup2(errors, 2) < 0) _exit(NOT_STARTED);
  signal(SIGPIPE, SIG_DFL);
  if (strcmp(what->argv[0], FIND_HOLDER) == 0) {
    find_holder(what->argv[1], what->argv[2]);
    _exit(0);
  }
  if (strcmp(what->argv[0], POD_SANDBOXES) == 0) {
    _exit(print_pod_sandboxes() ? 0 : 1);
  }
  execvp(what->argv[0], (char *const *)what->argv);
  dprintf(2, "%s: %s\n", what->argv[0], strerror(errno));
  _exit(NOT_STARTED);
}

/* A process of its own, so that the helper waits for nothing. What it writes last is the exit code, or 128 and a signal. */
static void watch_over(const rule_program *what, int netns, int input, const int *pipes) {
  /* What the helper ignores, and what would end it. */
  static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGCHLD};
  for (size_t at = 0; at < sizeof signals / sizeof signals[0]; at++) signal(signals[at], SIG_DFL);
  signal(SIGALRM, kill_program);
  alarm(TIMEOUT_S);
  const int kept[] = {input, pipes[0], pipes[1], pipes[2], netns};
  close_others(kept, sizeof kept / sizeof kept[0]);
  pid_t child = fork();
  if (child == 0) start(what, netns, input, pipes[0], pipes[1]);
  int status = 0, code = NOT_STARTED;
  if (child > 0) {
    program = child;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    program = 0;
    code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  /* The alarm goes on: whether the pipe blocks is for the client to say. */
  fcntl(pipes[2], F_SETFL, O_WRONLY | O_NONBLOCK);
  dprintf(pipes[2], "%d\n", code);
  _exit(0);
}

/* The end of a pipe to which one writes, and nothing else: what a program writes would mean something elsewhere. */
static bool is_pipe(int fd) {
  struct stat found;
  const int flags = fcntl(fd, F_GETFL);
  return fstat(fd, &found) == 0 && S_ISFIFO(found.st_mode) && flags >= 0 && (flags & (O_ACCMODE | O_PATH)) == O_WRONLY;
}

/* Memory that does not change any more: a file elsewhere could keep its reader waiting. */
static bool is_sealed(int fd) {
  static const int needed = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
  const int seals = fcntl(fd, F_GET_SEALS);
  return seals >= 0 && (seals & needed) == needed;
}

/* Of its own, to rewrite. */
static failure copy_payload(int fd, char **out, size_t *length) {
  struct stat found;
  if (fstat(fd, &found) != 0 || found.st_size <= 0 || found.st_size > (off_t)MAX_PAYLOAD)
    return (failure){"read what to run", EINVAL};
  *out = malloc((size_t)found.st_size);
  if (*out == NULL) return (failure){"allocate memory", ENOMEM};
  *length = 0;
  while (*length < (size_t)found.st_size) {
    ssize_t count = pread(fd, *out + *length, (size_t)found.st_size - *length, (off_t)*length);
    if (count <= 0) return (failure){"read what to run", count < 0 ? errno : EINVAL};
    *length += (size_t)count;
  }
  return success;
}

static failure input_file(const rule_program *what, int *fd) {
  *fd = memfd_create("culvert-input", MFD_CLOEXEC);
  if (*fd < 0) return failed("create a file in memory");
  for (size_t at = 0; at < what->input_length;) {
    ssize_t count = write(*fd, what->input + at, what->input_length - at);
    if (count <= 0) return failed("write the input of a program");
    at += (size_t)count;
  }
  return lseek(*fd, 0, SEEK_SET) == 0 ? success : failed("write the input of a program");
}

failure run_program(const act_request *what, const int *fds, uint64_t own_inode, const char **refusal) {
  const int netns = what->has_netns ? fds[0] : -1;
  const int *given = fds + (what->has_netns ? 1 : 0);
  uint64_t inode = own_inode;
  char *payload = NULL;
  size_t length = 0;
  int input = -1;
  rule_program wanted;
  if (!is_sealed(given[0])) *refusal = "a program that is not in sealed memory";
  else if (!is_pipe(given[1]) || !is_pipe(given[2]) || !is_pipe(given[3])) *refusal = "a program without its pipes";
  else if (netns >= 0 && !is_netns(netns, &inode)) *refusal = "what is no network namespace";
  if (*refusal != NULL) return success;
  failure result = copy_payload(given[0], &payload, &length);
  if (result.step == NULL) {
    *refusal = "a program that cannot be read";
    if (read_program(payload, length, &wanted)) *refusal = program_refusal(&wanted, inode == own_inode);
    if (*refusal == NULL && running >= MOST_AT_ONCE) result = (failure){"run so many programs at once", EAGAIN};
    if (*refusal == NULL && result.step == NULL) result = input_file(&wanted, &input);
    if (*refusal == NULL && result.step == NULL) {
      pid_t child = fork();
      if (child == 0) watch_over(&wanted, netns, input, given + 1);
      if (child < 0) result = failed("start a process");
      else running++;
    }
  }
  if (input >= 0) close(input);
  free(payload);
  return result;
}
