/* One epoll instance for each environment, watched by libuv. A turn is one call into JavaScript with all that is ready. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "io.h"

/* uv.h: of enum uv_handle_type and enum uv_poll_event. */
#define UV_POLL 8
#define UV_READABLE 1

#define LEAST_MEMORY (2 * DESK_BYTES)
#define MOST_MEMORY (256 << 20)

/* Memory lives until the environment has ended and JavaScript has forgotten its view, which it may have moved. */
typedef struct {
  atomic_int owners;
  void *bytes;
  size_t length;
} shared_memory;

static void drop_memory(shared_memory *memory) {
  if (atomic_fetch_sub(&memory->owners, 1) > 1) return;
  munmap(memory->bytes, memory->length);
  free(memory);
}

static void on_view_gone(napi_env env, void *bytes, void *memory) {
  (void)env;
  (void)bytes;
  drop_memory(memory);
}

typedef struct {
  io io;
  shared_memory *memory;
} instance;

int32_t *desk(io *self, size_t at) { return (int32_t *)(void *)(self->memory + at); }

bool is_inside(const io *self, int32_t offset, int32_t length) {
  return offset >= DESK_BYTES && length >= 0 && (uint64_t)offset + (uint64_t)length <= self->memory_length;
}

bool read_integers(napi_env env, napi_callback_info info, size_t count, int32_t *out, io **self) {
  napi_value values[8];
  size_t given = count;
  if (napi_get_cb_info(env, info, &given, values, NULL, (void **)self) != napi_ok || given < count) return false;
  if (!(*self)->is_started || (*self)->has_ended) return false;
  for (size_t at = 0; at < count; at++)
    if (napi_get_value_int32(env, values[at], &out[at]) != napi_ok) return false;
  return true;
}

napi_value integer(napi_env env, int64_t value) {
  napi_value result = NULL;
  napi_create_int32(env, (int32_t)value, &result);
  return result;
}

napi_value throw_text(napi_env env, const char *text) {
  napi_throw_error(env, "IO", text);
  return NULL;
}

static int collect(io *self) {
  struct epoll_event ready[MOST_EVENTS];
  const int count = epoll_wait(self->epoll, ready, MOST_EVENTS, 0);
  int32_t *out = desk(self, EVENTS_AT);
  int kept = 0;
  for (int at = 0; at < count; at++) {
    const int32_t handle = (int32_t)ready[at].data.u32;
    /* A copy of a descriptor in another process can keep the watch of a socket that is closed here. */
    slot *socket = find_slot(self, handle, SLOT_SOCKET);
    if (socket == NULL) continue;
    if (ready[at].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) socket->has_peer_ended = true;
    out[2 * kept] = handle;
    out[2 * kept + 1] = (int32_t)ready[at].events;
    kept++;
  }
  return kept;
}

static void on_ready(uv_handle *poll, int status, int events) {
  (void)status;
  (void)events;
  io *self = node.uv_handle_get_data(poll);
  napi_env env = self->env;
  napi_handle_scope scope;
  const int count = self->has_ended ? 0 : collect(self);
  if (count == 0 || napi_open_handle_scope(env, &scope) != napi_ok) return;
  napi_value call, global, argument, result;
  if (napi_get_reference_value(env, self->on_turn, &call) == napi_ok && napi_get_global(env, &global) == napi_ok &&
      napi_create_int32(env, count, &argument) == napi_ok &&
      napi_make_callback(env, NULL, global, call, 1, &argument, &result) == napi_pending_exception) {
    napi_value error;
    /* There is none to take when the thread is being terminated. */
    if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
  }
  napi_close_handle_scope(env, scope);
}

static void on_closed(uv_handle *poll) {
  instance *self = node.uv_handle_get_data(poll);
  const napi_async_cleanup_hook_handle hook = self->io.hook;
  free(poll);
  close_slots(&self->io);
  free_idle_pipes(&self->io);
  free_scratch(&self->io);
  close(self->io.epoll);
  drop_memory(self->memory);
  napi_remove_async_cleanup_hook(hook);
}

/* The end of a thread or the process: its event loop goes on until the hook is removed. */
static void on_end(napi_async_cleanup_hook_handle hook, void *data) {
  (void)hook;
  io *self = data;
  self->has_ended = true;
  node.uv_close(self->poll, on_closed);
}

static failure open_reactor(instance *self, uint32_t length) {
  io *const it = &self->io;
  uv_loop *loop;
  self->memory = calloc(1, sizeof *self->memory);
  it->poll = calloc(1, node.uv_handle_size(UV_POLL));
  if (self->memory == NULL || it->poll == NULL) return (failure){"allocate the reactor", ENOMEM};
  self->memory->length = length;
  self->memory->bytes = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (self->memory->bytes == MAP_FAILED) return failed("map the reactor's memory");
  it->epoll = epoll_create1(EPOLL_CLOEXEC);
  if (it->epoll < 0) return failed("create an epoll instance");
  if (napi_get_uv_event_loop(it->env, (struct uv_loop_s **)&loop) != napi_ok) return (failure){"find the event loop", EINVAL};
  const int result = node.uv_poll_init(loop, it->poll, it->epoll);
  return result == 0 ? success : (failure){"watch the epoll instance", -result};
}

static void undo(instance *self) {
  io *const it = &self->io;
  if (it->epoll >= 0) close(it->epoll);
  if (self->memory != NULL && self->memory->bytes != NULL && self->memory->bytes != MAP_FAILED)
    munmap(self->memory->bytes, self->memory->length);
  free(self->memory);
  free(it->poll);
  self->memory = NULL;
  it->poll = NULL;
}

/*
 * ioStart(bytes, onTurn(count)) -> ArrayBuffer of that length. Once for each environment. `onTurn` finds `count` events on
 * the desk. The reactor keeps the event loop alive while a socket is watched. Throws what this Node lacks, or an errno.
 */
static napi_value start(napi_env env, napi_callback_info info) {
  napi_value args[2], view;
  size_t given = 2;
  instance *self;
  uint32_t length;
  napi_valuetype type;
  if (napi_get_cb_info(env, info, &given, args, NULL, (void **)&self) != napi_ok || given < 2 ||
      napi_get_value_uint32(env, args[0], &length) != napi_ok || length < LEAST_MEMORY || length > MOST_MEMORY ||
      napi_typeof(env, args[1], &type) != napi_ok || type != napi_function)
    return throw_text(env, "ioStart takes a number of bytes and a function");
  if (self->io.is_started) return throw_text(env, "the reactor of this thread has been started");
  const char *missing = find_node_symbols();
  if (missing != NULL) return throw_text(env, missing);
  self->io.env = env;
  self->io.epoll = -1;
  failure outcome = open_reactor(self, length);
  if (outcome.step != NULL) {
    undo(self);
    return throw_failure(env, outcome);
  }
  self->io.memory = self->memory->bytes;
  self->io.memory_length = length;
  self->memory->owners = 2;
  node.uv_handle_set_data(self->io.poll, self);
  node.uv_poll_start(self->io.poll, UV_READABLE, on_ready);
  node.uv_unref(self->io.poll);
  self->io.is_started = true;
  napi_create_reference(env, args[1], 1, &self->io.on_turn);
  napi_add_async_cleanup_hook(env, on_end, self, &self->io.hook);
  if (napi_create_external_arraybuffer(env, self->memory->bytes, length, on_view_gone, self->memory, &view) == napi_ok)
    return view;
  atomic_store(&self->memory->owners, 1);
  return throw_text(env, "this Node gives no view of memory outside of its heap");
}

/* ioPoll() -> number of events that are on the desk now; never waits. */
static napi_value poll_now(napi_env env, napi_callback_info info) {
  io *self;
  return integer(env, read_integers(env, info, 0, NULL, &self) ? collect(self) : -EINVAL);
}

/*
 * ioWatch(handle, events) -> 0. EPOLLIN 1, EPOLLPRI 2, EPOLLOUT 4, EPOLLRDHUP 0x2000, and EPOLLET 1 << 31 in any combination;
 * another call replaces the events, and reports again what is ready. 0 stops to watch.
 */
static napi_value watch(napi_env env, napi_callback_info info) {
  int32_t in[2];
  io *self;
  if (!read_integers(env, info, 2, in, &self)) return integer(env, -EINVAL);
  slot *socket = find_slot(self, in[0], SLOT_SOCKET);
  if (socket == NULL) return integer(env, -EBADF);
  if ((uint32_t)in[1] & ~(uint32_t)(EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET)) return integer(env, -EINVAL);
  if (in[1] == 0) {
    unwatch(self, socket);
    return integer(env, 0);
  }
  struct epoll_event wanted = {.events = (uint32_t)in[1], .data.u32 = (uint32_t)in[0]};
  if (epoll_ctl(self->epoll, socket->is_watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, socket->fd, &wanted) != 0)
    return integer(env, -errno);
  if (!socket->is_watched && self->watched++ == 0) node.uv_ref(self->poll);
  socket->is_watched = true;
  return integer(env, 0);
}

/* Not left to close(): where another process has a copy of the descriptor, the watch would stay. */
void unwatch(io *self, slot *socket) {
  if (!socket->is_watched) return;
  epoll_ctl(self->epoll, EPOLL_CTL_DEL, socket->fd, NULL);
  socket->is_watched = false;
  if (--self->watched == 0 && !self->has_ended) node.uv_unref(self->poll);
}

/* ioCounts() -> sockets and contexts that are open: for tests that look for leaks. */
static napi_value counts(napi_env env, napi_callback_info info) {
  io *self;
  if (!read_integers(env, info, 0, NULL, &self)) return integer(env, 0);
  const uint32_t used = self->slot_count == 0 ? 0 : self->slot_count - 1;
  return integer(env, used - self->free_count);
}

static void forget(napi_env env, void *self, void *hint) {
  (void)env;
  (void)hint;
  free(self);
}

void add_io(napi_env env, napi_value exports) {
  instance *self = calloc(1, sizeof *self);
  if (self == NULL || napi_set_instance_data(env, self, forget, NULL) != napi_ok) {
    free(self);
    return;
  }
  const napi_property_descriptor functions[] = {
      FUNCTION_OF("ioStart", start, self),
      FUNCTION_OF("ioPoll", poll_now, self),
      FUNCTION_OF("ioWatch", watch, self),
      FUNCTION_OF("ioCounts", counts, self),
  };
  ADD_FUNCTIONS(env, exports, functions);
  add_io_sockets(env, exports, &self->io);
  add_io_splice(env, exports, &self->io);
  add_io_tls_contexts(env, exports, &self->io);
  add_io_tls(env, exports, &self->io);
}
