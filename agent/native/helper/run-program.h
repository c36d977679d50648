/* Runs the programs of capture in a namespace, each watched over by a process of its own. */
#pragma once

#include "../request.h"

/*
 * Returns when it is started. `refusal`: why it is not run at all; NULL otherwise. The descriptors stay the caller's.
 * `own_inode`: of the namespace in which the helper is.
 */
failure run_program(const act_request *what, const int *fds, uint64_t own_inode, const char **refusal);

/* Call it after SIGCHLD, or now and then. */
void forget_ended_programs(void);
