#pragma once

#include <stdint.h>

#include "invocation.h"

#define MAX_PROBLEM 512

typedef enum {
  /* The kernel has the rules: nothing of the pod passes by the agent. */
  AGENT_CAPTURED,
  AGENT_NOT_ENROLLED,
  /* The agent says why. */
  AGENT_FAILED,
  /* No agent, or none that answers in time. */
  AGENT_AWAY,
} agent_answer;

/* Milliseconds of a clock that nothing sets. */
int64_t now_ms(void);

/* Asks once. `command`: ADD or CHECK. `deadline`: by {@link now_ms}. */
agent_answer ask_agent(const invocation *about, const char *command, int64_t deadline, char problem[MAX_PROBLEM]);
