/* What the container runtime keeps of the sandboxes of pods, for an agent that finds the network namespaces of its pods. */
#pragma once

#include <stdbool.h>

#define POD_SANDBOXES "pod-sandboxes"

/*
 * Prints each file of libcni's cache of results in a line of its own: JSON with the sandbox's path and the UID of its pod. The
 * directory is root's. A file that is no plain one, is too large, or is being written now is left out. The limits are those
 * of agent/control/workloads/pod-sandboxes.ts. False: the directory is there and cannot be read; why is on standard error.
 */
bool print_pod_sandboxes(void);
