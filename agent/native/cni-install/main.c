/*
 * culvert-cni-install: puts the CNI plugin into the chain of a node, keeps it there, and takes it out. It runs as root next to an
 * agent that is not, and reads nothing but the two directories and its parent's lines.
 *
 *   culvert-cni-install keep CONFIG_DIRECTORY BIN_DIRECTORY PLUGIN ENTRY   works from the line "install" on standard input on;
 *                                                                          "remove" takes all out; ends with its input
 *   culvert-cni-install remove CONFIG_DIRECTORY BIN_DIRECTORY              takes all out; exit code 1: something is left
 *
 * It says on standard output what changed, a line of JSON each: {"installed":FILE}, {"problem":TEXT} or {"removed":true}.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#include "../helper/keep-capabilities.h"
#include "install.h"

/* A program that rewrites a configuration does so in several steps. */
#define QUIET_MS 100
/* Where another program takes our entry out each time, it goes no faster. */
#define PAUSE_MS 1000
/* A directory that cannot be watched is looked at this often. */
#define LOOK_MS 5000

#define EVENTS (IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_CREATE)

static void say(const char *key, const char *text) {
  static char last[MAX_REPORT + 64];
  char line[MAX_REPORT + 64];
  snprintf(line, sizeof line, "%s %s", key, text);
  if (strcmp(line, last) == 0) return;
  strcpy(last, line);
  printf("{\"%s\":\"", key);
  for (; *text != '\0'; text++) {
    const unsigned char byte = (unsigned char)*text;
    if (byte < ' ' || byte == '"' || byte == '\\') printf("\\u%04x", byte);
    else putchar(byte);
  }
  puts("\"}");
  fflush(stdout);
}

static void install_and_say(const installation *what) {
  char report[MAX_REPORT] = "";
  const bool is_done = install(what, report);
  say(is_done ? "installed" : "problem", report);
}

static int take_out_and_say(const installation *what) {
  char report[MAX_REPORT] = "";
  const bool is_done = take_out(what, report);
  say(is_done ? "removed" : "problem", report);
  return is_done ? 0 : 1;
}

/* Reads what came. True: something did. */
static bool drain(int watch) {
  char events[4096];
  bool is_any = false;
  while (read(watch, events, sizeof events) > 0) is_any = true;
  return is_any;
}

/* A watch is of an inode: a directory that is made again needs another one. Adding one that is there changes nothing. */
static void watch_both(int watch, const installation *what) {
  inotify_add_watch(watch, what->config_directory, EVENTS);
  inotify_add_watch(watch, what->bin_directory, EVENTS);
}

static char said[32];
static size_t said_length;

/* False: the parent has gone, or writes what is no order. */
static bool read_orders(void) {
  const ssize_t more = read(STDIN_FILENO, said + said_length, sizeof said - 1 - said_length);
  if (more < 0 && errno == EINTR) return true;
  if (more <= 0) return false;
  said_length += (size_t)more;
  said[said_length] = '\0';
  return said_length < sizeof said - 1 || strchr(said, '\n') != NULL;
}

/* Whether the next whole line is this one, which is taken then. */
static bool take_order(const char *order) {
  const size_t length = strlen(order);
  if (said_length < length || memcmp(said, order, length) != 0) return false;
  said_length -= length;
  memmove(said, said + length, said_length + 1);
  return true;
}

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int keep(const installation *what) {
  const int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  bool is_wanted = false;
  int64_t done_at = 0, due_at = 0;
  for (;;) {
    if (is_wanted && now_ms() >= due_at) {
      watch_both(watch, what);
      install_and_say(what);
      done_at = now_ms();
      due_at = done_at + LOOK_MS;
    }
    struct pollfd on[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = watch, .events = POLLIN}};
    const int64_t left = due_at - now_ms();
    if (poll(on, 2, !is_wanted ? -1 : left < 0 ? 0 : (int)left) < 0 && errno != EINTR) return 1;
    if (on[0].revents != 0) {
      if (!read_orders()) return 0;
      if (take_order("install\n")) is_wanted = true;
      if (take_order("remove\n")) return take_out_and_say(what);
    }
    if (!drain(watch)) continue;
    /* Also what it wrote itself: the next look then finds nothing to do. */
    const int64_t quiet_at = now_ms() + QUIET_MS, paused_at = done_at + PAUSE_MS;
    const int64_t soon = quiet_at > paused_at ? quiet_at : paused_at;
    if (due_at > soon) due_at = soon;
  }
}

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  const bool keeps = argc == 6 && strcmp(argv[1], "keep") == 0, removes = argc == 4 && strcmp(argv[1], "remove") == 0;
  if (!keeps && !removes) {
    fprintf(stderr, "usage: culvert-cni-install keep CONFIG_DIRECTORY BIN_DIRECTORY PLUGIN ENTRY\n"
                    "       culvert-cni-install remove CONFIG_DIRECTORY BIN_DIRECTORY\n");
    return 64;
  }
  /* The directories may be another user's than root's. */
  if (!keep_capabilities(CAPABILITY(CAP_DAC_OVERRIDE))) {
    perror("culvert-cni-install: giving up capabilities");
    return 1;
  }
  installation what = {.config_directory = argv[2], .bin_directory = argv[3]};
  if (removes) return take_out_and_say(&what);
  what.plugin = argv[4];
  what.entry = (json_span){argv[5], strlen(argv[5])};
  if (!is_json(what.entry)) {
    fprintf(stderr, "culvert-cni-install: the entry is no JSON\n");
    return 64;
  }
  return keep(&what);
}
