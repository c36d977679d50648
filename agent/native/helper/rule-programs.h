/* Which programs the helper runs, with which arguments and input: those that read and load capture rules, and its searches. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define MAX_ARGUMENTS 8
/* No program, but this one's own search (find-holder.h). */
#define FIND_HOLDER "find-holder"
#define MAX_PAYLOAD (4u << 20)

typedef struct {
  char *argv[MAX_ARGUMENTS + 1];
  size_t argc;
  char *input;
  size_t input_length;
} rule_program;

/* Where rules are to be: in the namespace in which the helper is, or in another one; of which address family. */
typedef struct {
  bool is_host, is_v6;
} rule_place;

/* Splits what a client wrote: arguments, each with a NUL, an empty one, and the input. False: it is malformed. */
bool read_program(char *payload, size_t length, rule_program *out);

/* NULL: it may run, and the rules that it loads are written again within it. */
const char *program_refusal(rule_program *what, bool is_host);

/* NULL: it was text for iptables-restore that touches only chains of the agent and jumps to them, and is the same in words
   of the helper now, not longer. Otherwise what is not allowed. */
const char *rewrite_rules(char *text, size_t *length, rule_place where);
