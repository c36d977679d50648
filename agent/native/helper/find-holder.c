#define _GNU_SOURCE
#include "find-holder.h"

#include <ctype.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MOST_STEPS 16384
#define MOST_DESCRIPTORS_OF_ONE 1024

static bool leads_to(const char *path, const char *wanted) {
  char found[64];
  ssize_t length = readlink(path, found, sizeof found - 1);
  if (length < 0) return false;
  found[length] = '\0';
  return strcmp(found, wanted) == 0;
}

/* Whether one of its descriptors is the socket. `steps` and `is_cut` go on from process to process. */
static bool has_socket(const char *pid, const char *socket, int *steps, bool *is_cut) {
  char path[600];
  snprintf(path, sizeof path, "/proc/%s/fd", pid);
  DIR *descriptors = opendir(path);
  if (descriptors == NULL) return false;
  bool is_found = false;
  int of_this = 0;
  for (struct dirent *each; !is_found && (each = readdir(descriptors)) != NULL;) {
    if (each->d_name[0] == '.') continue;
    if (++*steps > MOST_STEPS || ++of_this > MOST_DESCRIPTORS_OF_ONE) {
      *is_cut = true;
      break;
    }
    snprintf(path, sizeof path, "/proc/%s/fd/%s", pid, each->d_name);
    is_found = leads_to(path, socket);
  }
  closedir(descriptors);
  return is_found;
}

static void print_process(const char *pid) {
  char path[300], name[64] = "it has ended";
  snprintf(path, sizeof path, "/proc/%s/comm", pid);
  FILE *file = fopen(path, "re");
  if (file != NULL) {
    if (fgets(name, sizeof name, file) != NULL) name[strcspn(name, "\n")] = '\0';
    fclose(file);
  }
  dprintf(1, "%s %s\n", pid, name);
}

void find_holder(const char *netns_inode, const char *socket_inode) {
  char netns[64], socket[64], path[300];
  snprintf(netns, sizeof netns, "net:[%s]", netns_inode);
  snprintf(socket, sizeof socket, "socket:[%s]", socket_inode);
  int steps = 0;
  bool is_cut = false;
  DIR *processes = opendir("/proc");
  if (processes == NULL) return;
  for (struct dirent *each; steps < MOST_STEPS && (each = readdir(processes)) != NULL;) {
    if (!isdigit((unsigned char)each->d_name[0])) continue;
    steps++;
    snprintf(path, sizeof path, "/proc/%s/ns/net", each->d_name);
    if (!leads_to(path, netns) || !has_socket(each->d_name, socket, &steps, &is_cut)) continue;
    print_process(each->d_name);
    closedir(processes);
    return;
  }
  closedir(processes);
  if (is_cut || steps >= MOST_STEPS) dprintf(1, "cut\n");
}
