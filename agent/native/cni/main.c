/*
 * culvert-cni: the last plugin in the chain of CNI plugins of a node. Before the first process of a pod runs, it has the agent
 * of the node capture the pod's network namespace, and waits until the kernel has the rules. It decides nothing about the
 * mesh, has no credential and no state. While no agent answers, the list that the agent left on the node says which pods must
 * wait; the kubelet tries those again.
 *
 * It follows the specification of CNI 1.1.0 (https://www.cni.dev/docs/spec/): the command is in the environment, the
 * configuration comes on standard input, and the result or an error goes to standard output.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "enrolled.h"
#include "invocation.h"

/* Between two looks for an agent that is away. */
#define RETRY_MS 100
#define STDIN_TIMEOUT_MS 10000

static char input[MAX_STDIN + 1];

static void print_text(const char *text) {
  putchar('"');
  for (; *text != '\0'; text++) {
    const unsigned char byte = (unsigned char)*text;
    if (byte < ' ') printf("\\u%04x", byte);
    else printf(byte == '"' || byte == '\\' ? "\\%c" : "%c", byte);
  }
  putchar('"');
}

static int fail(const char *version, cni_error error) {
  printf("{\"cniVersion\":");
  print_text(version);
  printf(",\"code\":%d,\"msg\":", (int)error.code);
  print_text(error.message);
  printf(",\"details\":");
  print_text(error.details);
  puts("}");
  return 1;
}

/* All of standard input. False: there is more than it takes, it does not end in time, or it cannot be read. */
static bool read_input(size_t *length) {
  const int64_t deadline = now_ms() + STDIN_TIMEOUT_MS;
  for (*length = 0; *length <= MAX_STDIN;) {
    struct pollfd on = {.fd = STDIN_FILENO, .events = POLLIN};
    const int64_t left = deadline - now_ms();
    const int ready = left <= 0 ? 0 : poll(&on, 1, (int)left);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return false;
    const ssize_t more = read(STDIN_FILENO, input + *length, MAX_STDIN + 1 - *length);
    if (more < 0 && errno == EINTR) continue;
    if (more <= 0) return more == 0;
    *length += (size_t)more;
  }
  return false;
}

/* The cluster's own pods never wait for the mesh: without them nothing could bring it back. */
static bool always_passes(const invocation *about) {
  const char *name = about->pod_namespace;
  return strcmp(name, "kube-system") == 0 || (name[0] != '\0' && strcmp(name, about->own_namespace) == 0);
}

/* Asks until there is an answer, or time is over. A pod that need not wait does not wait for an agent that is away. */
static cni_error protect(const invocation *about) {
  static char problem[MAX_PROBLEM];
  const int64_t deadline = now_ms() + (int64_t)about->timeout_ms;
  for (;;) {
    const agent_answer answer = ask_agent(about, "ADD", deadline, problem);
    if (answer == AGENT_CAPTURED || answer == AGENT_NOT_ENROLLED || always_passes(about)) return no_error;
    if (answer == AGENT_FAILED)
      return (cni_error){CNI_TRY_LATER, "culvert: the agent of this node could not capture the pod; the kubelet tries again",
                         problem};
    const enrolment known = find_enrolment(about->enrolled_file, about->pod_namespace, about->pod_uid);
    if (known == NOT_ENROLLED) return no_error;
    if (now_ms() + RETRY_MS < deadline) {
      usleep(RETRY_MS * 1000);
      continue;
    }
    if (known == ENROLLED)
      return (cni_error){CNI_TRY_LATER,
                         "culvert: the pod belongs into the mesh, and the agent of this node does not answer; it starts when "
                         "the agent does",
                         "see the culvert-agent pod of this node; where Culvert was deleted, culvert-agent remove takes the "
                         "plugin out"};
    return (cni_error){CNI_TRY_LATER,
                       "culvert: the agent of this node does not answer, and its list of enrolled namespaces cannot be read; "
                       "the pod starts when the agent does",
                       "see the culvert-agent pod of this node; where Culvert was deleted, culvert-agent remove takes the plugin "
                       "out, or a person the entry of culvert-cni in /etc/cni/net.d"};
  }
}

static cni_error add(invocation *about) {
  if (about->previous.at == NULL)
    return (cni_error){CNI_BAD_CONFIG, "culvert: the configuration has no prevResult",
                       "culvert-cni gives no addresses: it comes after a plugin that does, in a .conflist"};
  const cni_error error = protect(about);
  if (error.message != NULL) return error;
  fwrite(about->previous.at, 1, about->previous.length, stdout);
  putchar('\n');
  return no_error;
}

static cni_error check(const invocation *about) {
  static char problem[MAX_PROBLEM];
  if (ask_agent(about, "CHECK", now_ms() + (int64_t)about->timeout_ms, problem) != AGENT_FAILED) return no_error;
  return (cni_error){CNI_TRY_LATER, "culvert: the pod is enrolled and not captured", problem};
}

static int run(const char *command) {
  invocation about = {.version = "0.4.0"};
  size_t length = 0;
  const bool is_add = strcmp(command, "ADD") == 0;
  if (!read_input(&length))
    return fail(about.version, (cni_error){CNI_IO, "culvert: the configuration cannot be read",
                                           "it comes on standard input, at most 1 MiB, within 10 s"});
  cni_error error = read_configuration((json_span){input, length}, &about);
  if (error.message == NULL) error = read_environment(&about);
  if (error.message == NULL) error = is_add ? add(&about) : check(&about);
  return error.message == NULL ? 0 : fail(about.version, error);
}

int main(void) {
  const char *command = getenv("CNI_COMMAND");
  signal(SIGPIPE, SIG_IGN);
  int code = 0;
  if (command == NULL) command = "";
  if (strcmp(command, "ADD") == 0 || strcmp(command, "CHECK") == 0) code = run(command);
  else if (strcmp(command, "VERSION") == 0)
    printf("{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[%s]}\n", supported_versions);
  /* Rules go with the namespace. An error of DEL keeps a pod from ending, and one of STATUS takes the node out of service. */
  else if (strcmp(command, "DEL") != 0 && strcmp(command, "GC") != 0 && strcmp(command, "STATUS") != 0)
    code = fail("1.1.0", (cni_error){CNI_BAD_ENVIRONMENT, "culvert: CNI_COMMAND is none that this plugin knows",
                                     "ADD, DEL, CHECK, GC, STATUS or VERSION; a container runtime starts this program"});
  if (fflush(stdout) == 0 && !ferror(stdout)) return code;
  return 1;
}
