/* Bytes from one plain socket to another that never enter the process: through a pipe of the kernel. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "io.h"

#define PIPE_BYTES (1 << 18)
/* In one call, so that a fast or a dripping source does not hold the thread. */
#define MOST_SPLICED (1 << 20)
#define MOST_ROUNDS 16
/* Empty pipes that an environment keeps. */
#define MOST_IDLE 16

struct pipe_pair {
  int from, to;
  uint32_t held; /* bytes inside */
  pipe_pair *next;
};

void free_pipe(pipe_pair *pipe) {
  close(pipe->from);
  close(pipe->to);
  free(pipe);
}

void free_idle_pipes(io *self) {
  while (self->idle_pipes != NULL) {
    pipe_pair *next = self->idle_pipes->next;
    free_pipe(self->idle_pipes);
    self->idle_pipes = next;
  }
  self->idle_pipe_count = 0;
}

static pipe_pair *take_pipe(io *self) {
  pipe_pair *found = self->idle_pipes;
  if (found != NULL) {
    self->idle_pipes = found->next;
    self->idle_pipe_count--;
    return found;
  }
  int ends[2];
  found = calloc(1, sizeof *found);
  if (found == NULL) return NULL;
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
    free(found);
    return NULL;
  }
  found->from = ends[0];
  found->to = ends[1];
  /* A user at the limit of /proc/sys/fs/pipe-user-pages-soft has a smaller one. */
  (void)!fcntl(found->to, F_SETPIPE_SZ, PIPE_BYTES);
  return found;
}

static void put_pipe(io *self, pipe_pair *pipe) {
  if (self->idle_pipe_count >= MOST_IDLE) {
    free_pipe(pipe);
    return;
  }
  pipe->next = self->idle_pipes;
  self->idle_pipes = pipe;
  self->idle_pipe_count++;
}

/* What the pipe holds, to the target. Returns 0 or an errno. */
static int drain(pipe_pair *pipe, int target, int32_t *moved) {
  while (pipe->held > 0) {
    const ssize_t count = splice(pipe->from, NULL, target, NULL, pipe->held, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (count <= 0) return count == 0 ? EPIPE : errno;
    pipe->held -= (uint32_t)count;
    *moved += (int32_t)count;
  }
  return 0;
}

/*
 * ioSplice(from, to, most) -> bytes that the target took, at most `most` (to 1 MiB) and what waited before, in at most 16
 * steps. The status says nothing where more may be ready; DRY
 * and END of the source, FULL of the target, FAILED with an errno and in the third word whose it is (1: the source's, 2:
 * the target's), and in the fourth word the bytes that wait between the two: they belong to `from`, and are lost with it.
 * END comes only when none wait. -EMFILE and the like when there is no pipe.
 */
static napi_value splice_sockets(napi_env env, napi_callback_info info) {
  int32_t in[3];
  io *self;
  if (!read_integers(env, info, 3, in, &self)) return integer(env, -EINVAL);
  slot *from = find_slot(self, in[0], SLOT_SOCKET), *to = find_slot(self, in[1], SLOT_SOCKET);
  if (from == NULL || to == NULL) return integer(env, -EBADF);
  if (in[2] < 1 || in[2] > MOST_SPLICED || from == to || from->tls != NULL || to->tls != NULL) return integer(env, -EINVAL);
  pipe_pair *pipe = from->pipe != NULL ? from->pipe : take_pipe(self);
  if (pipe == NULL) return integer(env, -errno);
  from->pipe = NULL;

  int32_t moved = 0, taken = 0, bits = 0, number = 0, side = 0;
  for (int round = 0; bits == 0; round++) {
    const int failure = drain(pipe, to->fd, &moved);
    if (failure == EAGAIN) bits |= STATUS_FULL;
    else if (failure != 0) bits |= STATUS_FAILED, number = failure, side = 2;
    if (bits != 0 || taken >= in[2] || round == MOST_ROUNDS) break;
    const ssize_t count = splice(from->fd, NULL, pipe->to, NULL, (size_t)(in[2] - taken), SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (count == 0) bits |= STATUS_END;
    else if (count > 0) taken += (int32_t)count, pipe->held += (uint32_t)count;
    else if (errno == EAGAIN) bits |= STATUS_DRY;
    else bits |= STATUS_FAILED, number = errno, side = 1;
  }
  int32_t *status = desk(self, STATUS_AT);
  status[0] = bits;
  status[1] = number;
  status[2] = side;
  status[3] = (int32_t)pipe->held;
  if (pipe->held > 0) from->pipe = pipe;
  else put_pipe(self, pipe);
  return integer(env, moved);
}

void add_io_splice(napi_env env, napi_value exports, io *self) {
  const napi_property_descriptor functions[] = {FUNCTION_OF("ioSplice", splice_sockets, self)};
  ADD_FUNCTIONS(env, exports, functions);
}
