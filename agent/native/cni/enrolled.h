#pragma once

#include <stdbool.h>

typedef enum {
  /* Pods of this namespace belong into the mesh. */
  ENROLLED,
  NOT_ENROLLED,
  /* The list is not there, or damaged. */
  ENROLMENT_UNKNOWN,
} enrolment;

/* Of a namespace of Kubernetes, by the list that the agent leaves on the node (agent/control/cni/enrolled-file.ts writes it). */
enrolment find_enrolment(const char *file, const char *pod_namespace);
