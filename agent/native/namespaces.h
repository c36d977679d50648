/* A thread's visit to another network namespace. */
#ifndef CULVERT_NAMESPACES_H
#define CULVERT_NAMESPACES_H

#include "node-values.h"

/* One per environment (the main thread or a worker), so one per thread: the namespace that the thread belongs to. */
typedef struct {
  int own_netns_fd;
} thread_state;

/* The calling environment's own. */
thread_state *state_of(napi_env env);

/* `netns_fd` -1: the thread stays where it is. The visit must end with leave_netns before the call returns. */
failure enter_netns(int netns_fd, thread_state *state);

/* Aborts the process when the way back fails: what ran on the thread afterwards would dial as the workload. */
void leave_netns(int netns_fd, const thread_state *state);

#endif
