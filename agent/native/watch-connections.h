/* What the kernel says of connections that are redirected to the agent. Plain C without Node. */
#pragma once

#include "tcp-life.h"

/* Opens a socket that gets a message for each from now on, in the calling thread's namespace. */
failure open_connection_watch(int *fd);
