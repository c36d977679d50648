/* What the privileged helper does at all. All else is refused, before anything of it is done. */
#pragma once

#include "../request.h"

typedef struct {
  /* Of the namespace in which the helper itself is. */
  uint64_t own_inode;
  /* The one file of root that it reads, because the agent joins with it; empty: none. */
  const char *token_file;
} helper_limits;

/* NULL: it may be performed. Otherwise why not, in words. */
const char *refusal_of(const act_request *what, const int *fds, size_t count, const helper_limits *limits);
