#pragma once

#include "../cni/json.h"

#define MAX_REPORT 512

/* Where the plugin is put. */
typedef struct {
  /* /etc/cni/net.d and /opt/cni/bin, or where they are mounted. */
  const char *config_directory, *bin_directory;
  /* The program that is copied. */
  const char *plugin;
  /* The entry in the chain. */
  json_span entry;
} installation;

/*
 * Puts the program and then the entry in place. The configuration that a runtime takes is the first by name; an entry in another
 * one is taken out. True: it is in place, and `report` names the file. False: `report` says why not.
 */
bool install(const installation *what, char report[MAX_REPORT]);

/* Takes the entry out of every configuration, and then the program away. False: `report` says what is left. */
bool take_out(const installation *what, char report[MAX_REPORT]);
