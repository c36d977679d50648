/* The table behind the handles of one environment. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io.h"

#define SLOT_BITS 19
#define MOST_SLOTS (1u << SLOT_BITS)
#define GENERATION_MASK 0xfffu
/* A free slot waits until this many are free: with 12 bits of generation, four million sockets lie between two uses of it. */
#define FREE_AT_LEAST 1024

static int32_t handle_of(const io *self, const slot *which) {
  return (int32_t)((uint32_t)which->generation << SLOT_BITS | (uint32_t)(which - self->slots));
}

slot *find_slot(io *self, int32_t handle, slot_kind kind) {
  const uint32_t at = (uint32_t)handle & (MOST_SLOTS - 1);
  if (handle <= 0 || at >= self->slot_count) return NULL;
  slot *found = &self->slots[at];
  return found->kind == kind && handle_of(self, found) == handle ? found : NULL;
}

/* Each environment and slot begins with another generation, so a handle of one thread is hardly ever one of another. */
static uint16_t first_generation(const io *self, uint32_t at) {
  uint64_t mixed = ((uint64_t)(uintptr_t)self >> 4) * 0x9e3779b97f4a7c15u + at * 0xc2b2ae3d27d4eb4fu;
  mixed ^= mixed >> 29;
  return (uint16_t)(1 + mixed % GENERATION_MASK);
}

static bool grow(io *self) {
  const uint32_t capacity = self->slot_capacity == 0 ? 256 : 2 * self->slot_capacity;
  slot *grown = realloc(self->slots, capacity * sizeof *grown);
  if (grown == NULL) return false;
  self->slots = grown;
  self->slot_capacity = capacity;
  return true;
}

static slot *unused_slot(io *self) {
  if (self->free_count > FREE_AT_LEAST || (self->slot_count == MOST_SLOTS && self->free_count > 0)) {
    slot *first = &self->slots[self->first_free];
    self->first_free = first->next_free;
    self->free_count--;
    return first;
  }
  if (self->slot_count == MOST_SLOTS) {
    errno = EMFILE;
    return NULL;
  }
  if (self->slot_count == self->slot_capacity && !grow(self)) return NULL;
  const uint32_t at = self->slot_count++;
  memset(&self->slots[at], 0, sizeof *self->slots);
  self->slots[at].generation = first_generation(self, at);
  if (at > 0) return &self->slots[at];
  return unused_slot(self); /* slot 0 stays unused */
}

static bool note_fd(io *self, int fd, uint32_t at) {
  if ((size_t)fd >= self->fd_capacity) {
    size_t capacity = self->fd_capacity == 0 ? 256 : self->fd_capacity;
    while (capacity <= (size_t)fd) capacity *= 2;
    uint32_t *grown = realloc(self->slot_of_fd, capacity * sizeof *grown);
    if (grown == NULL) return false;
    memset(grown + self->fd_capacity, 0, (capacity - self->fd_capacity) * sizeof *grown);
    self->slot_of_fd = grown;
    self->fd_capacity = capacity;
  }
  if (at != 0 && self->slot_of_fd[fd] != 0) {
    errno = EEXIST;
    return false;
  }
  self->slot_of_fd[fd] = at;
  return true;
}

static void return_slot(io *self, slot *which) {
  const uint32_t at = (uint32_t)(which - self->slots);
  *which = (slot){.fd = -1, .generation = (uint16_t)(which->generation % GENERATION_MASK + 1)};
  if (self->free_count == 0) self->first_free = at;
  else self->slots[self->last_free].next_free = at;
  self->last_free = at;
  self->free_count++;
}

int32_t make_slot(io *self, slot_kind kind, int fd) {
  slot *made = unused_slot(self);
  if (made == NULL) return -errno;
  if (fd >= 0 && !note_fd(self, fd, (uint32_t)(made - self->slots))) {
    const int number = errno;
    return_slot(self, made);
    return -number;
  }
  made->kind = (uint8_t)kind;
  made->fd = fd;
  return handle_of(self, made);
}

/* Everything but the descriptor, which is the caller's to close. */
void free_slot(io *self, slot *which) {
  if (which->kind == SLOT_SOCKET) {
    unwatch(self, which);
    if (which->fd >= 0) self->slot_of_fd[which->fd] = 0;
    if (which->tls != NULL) free_session(which->tls);
    if (which->pipe != NULL) free_pipe(which->pipe);
  } else if (which->kind == SLOT_TLS_CONTEXT) {
    drop_context(which->context);
  }
  return_slot(self, which);
}

void close_slots(io *self) {
  for (uint32_t at = 1; at < self->slot_count; at++) {
    slot *each = &self->slots[at];
    if (each->kind == SLOT_FREE) continue;
    const int fd = each->fd;
    free_slot(self, each);
    if (fd >= 0) close(fd);
  }
  free(self->slots);
  free(self->slot_of_fd);
  self->slots = NULL;
  self->slot_of_fd = NULL;
  self->slot_count = self->slot_capacity = self->free_count = 0;
  self->fd_capacity = 0;
}
