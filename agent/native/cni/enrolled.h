#pragma once

#include <stdbool.h>

typedef enum {
  /* The pod belongs into the mesh, or nothing says that this one of its namespace does not. */
  ENROLLED,
  NOT_ENROLLED,
  /* The list is not there, or damaged. */
  ENROLMENT_UNKNOWN,
} enrolment;

/*
 * Of a pod of Kubernetes, by the list that the agent leaves on the node (agent/control/cni/enrolled-list.ts writes it). `pod_uid`
 * may be empty.
 */
enrolment find_enrolment(const char *file, const char *pod_namespace, const char *pod_uid);
