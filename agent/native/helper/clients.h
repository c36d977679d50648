/* The clients of a listening helper: each is served by a process of its own, so one that hangs has only itself hang. */
#pragma once

#include <sys/types.h>

/*
 * Serves those of a user, for ever; returns only what to exit with. `serve` runs in a process of its own for each client, until
 * that has gone.
 */
int serve_listener(int listener, uid_t user, int (*serve)(int channel));
