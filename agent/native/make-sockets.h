/* TCP sockets as capture needs them, in the calling thread's namespace. Plain C without Node. */
#pragma once

#include "request.h"

failure make_listener(const act_request *what, int *fd);
/* As many as are wanted, or fewer where it cannot make the rest; not bound. */
failure make_dials(const act_request *what, made_fds *made);
failure set_transparent(int fd, int family);
