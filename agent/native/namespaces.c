#define _GNU_SOURCE
#include "namespaces.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

thread_state *state_of(napi_env env) {
  void *state = NULL;
  napi_get_instance_data(env, &state);
  return state;
}

failure enter_netns(int netns_fd, thread_state *state) {
  if (netns_fd < 0) return success;
  if (state->own_netns_fd < 0) {
    state->own_netns_fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (state->own_netns_fd < 0) return failed("open the thread's own network namespace");
  }
  if (setns(netns_fd, CLONE_NEWNET) != 0) return failed("enter the network namespace (setns)");
  return success;
}

void leave_netns(int netns_fd, const thread_state *state) {
  if (netns_fd < 0) return;
  if (setns(state->own_netns_fd, CLONE_NEWNET) == 0) return;
  perror("culvert: cannot return to the agent's own network namespace, aborting");
  abort();
}
