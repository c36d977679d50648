/*
 * A runtime reads one configuration, the first by name. A chain (.conflist) gets our entry. One plugin (.conf, .json) becomes a
 * chain under another name, and its file is kept under a name that no runtime reads, to be put back. Each step is one
 * rename(2), in an order in which a runtime that looks in between finds the old or the new configuration.
 */
#define _GNU_SOURCE
#include "install.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chain.h"
#include "files.h"

#define MAX_CONFIG (1024 * 1024)
#define MAX_PROGRAM (16 * 1024 * 1024)
#define MAX_NAME 256
#define SAVED ".culvert-saved"
#define OWN_CHAIN ".culvert.conflist"

static bool fail(char *report, const char *directory, const char *name, const char *why) {
  snprintf(report, MAX_REPORT, "%s/%s: %s", directory, name, why);
  return false;
}

static bool fail_errno(char *report, const char *directory, const char *name) {
  const char *why = errno == ELOOP ? "it is a link; it must be a file" : errno == EINVAL ? "it is no file" : strerror(errno);
  return fail(report, directory, name, why);
}

static const char *ending_of(const char *name) {
  const char *dot = strrchr(name, '.');
  return dot == NULL ? "" : dot;
}

static bool is_chain_name(const char *name) { return strcmp(ending_of(name), ".conflist") == 0; }

static int is_config(const struct dirent *entry) {
  const char *ending = ending_of(entry->d_name);
  return entry->d_name[0] != '.' && strlen(entry->d_name) < 200 &&
         (strcmp(ending, ".conf") == 0 || strcmp(ending, ".conflist") == 0 || strcmp(ending, ".json") == 0);
}

static int by_bytes(const struct dirent **one, const struct dirent **other) {
  return strcmp((*one)->d_name, (*other)->d_name);
}

/*
 * The name of the chain that a configuration of one plugin becomes; a chain keeps its own. It comes after that file by name, so
 * that it counts when that has gone, and after a chain that its own program writes. No other program has such a name.
 */
static void name_chain(const char *name, char out[MAX_NAME + 32]) {
  if (is_chain_name(name)) snprintf(out, MAX_NAME + 32, "%s", name);
  else snprintf(out, MAX_NAME + 32, "%.*s" OWN_CHAIN, (int)(ending_of(name) - name), name);
}

/* Length of a name before the ending of a chain that was made here; 0: it was not. */
static size_t base_of(const char *chain_name) {
  const size_t length = strlen(chain_name), ending = sizeof OWN_CHAIN - 1;
  return length > ending && strcmp(chain_name + length - ending, OWN_CHAIN) == 0 ? length - ending : 0;
}

/* Gives back the file of which a chain was made; false: there is none. */
static bool put_back(int directory, const char *chain_name) {
  static const char *const endings[] = {".conf", ".json"};
  const size_t base = base_of(chain_name);
  char newer[MAX_NAME + 32];
  snprintf(newer, sizeof newer, "%.*s.conflist", (int)base, chain_name);
  for (size_t at = 0; base > 0 && at < 2; at++) {
    char name[MAX_NAME + 32], saved[MAX_NAME + 64];
    snprintf(name, sizeof name, "%.*s%s", (int)base, chain_name, endings[at]);
    snprintf(saved, sizeof saved, "%s" SAVED, name);
    if (faccessat(directory, saved, F_OK, AT_SYMLINK_NOFOLLOW) != 0) continue;
    /* What another program has written meanwhile is newer, as a chain or as one plugin. */
    if (faccessat(directory, newer, F_OK, AT_SYMLINK_NOFOLLOW) == 0) unlinkat(directory, saved, 0);
    else if (renameat2(directory, saved, directory, name, RENAME_NOREPLACE) != 0 && errno == EEXIST) unlinkat(directory, saved, 0);
    if (unlinkat(directory, chain_name, 0) != 0 && errno != ENOENT) return false;
    return sync_directory(directory);
  }
  return false;
}

/* Takes our entry out of a chain. False: `report` says why that cannot be. */
static bool clear(const char *place, int directory, const char *name, char *report) {
  file_content content;
  if (!is_chain_name(name)) return true;
  if (!read_file(directory, name, MAX_CONFIG, &content)) return errno == ENOENT || fail_errno(report, place, name);
  const json_span list = {content.bytes, content.length};
  bool is_done = true;
  if (has_entry(list) && !put_back(directory, name)) {
    chain_text made = with_entry(list, (json_span){"", 0});
    is_done = made.problem == NULL ? replace_file(directory, name, made.text, made.length, content.mode) ||
                                         fail_errno(report, place, name)
                                   : fail(report, place, name, made.problem);
    free(made.text);
  }
  free(content.bytes);
  return is_done;
}

static bool put_into_chain(const installation *what, int directory, const char *name, const file_content *content, char *report) {
  chain_text made = with_entry((json_span){content->bytes, content->length}, what->entry);
  if (made.problem != NULL) return fail(report, what->config_directory, name, made.problem);
  const bool is_done = made.is_same || replace_file(directory, name, made.text, made.length, content->mode) ||
                       fail_errno(report, what->config_directory, name);
  free(made.text);
  return is_done;
}

static bool make_chain(const installation *what, int directory, const char *name, const file_content *content, char *report) {
  char chain_name[MAX_NAME + 32], saved[MAX_NAME + 32];
  chain_text made = chain_of((json_span){content->bytes, content->length}, what->entry);
  if (made.problem != NULL) return fail(report, what->config_directory, name, made.problem);
  name_chain(name, chain_name);
  snprintf(saved, sizeof saved, "%s" SAVED, name);
  const bool is_done = replace_file(directory, chain_name, made.text, made.length, content->mode) &&
                       renameat(directory, name, directory, saved) == 0 && sync_directory(directory);
  free(made.text);
  return is_done || fail_errno(report, what->config_directory, name);
}

static bool install_entry(const installation *what, int directory, const char *name, char *report) {
  file_content content;
  if (!read_file(directory, name, MAX_CONFIG, &content)) return fail_errno(report, what->config_directory, name);
  const bool is_done = is_chain_name(name) ? put_into_chain(what, directory, name, &content, report)
                                           : make_chain(what, directory, name, &content, report);
  free(content.bytes);
  return is_done;
}

static bool install_program(const installation *what, char *report) {
  file_content wanted, found;
  const int directory = open(what->bin_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return fail_errno(report, what->bin_directory, "");
  bool is_done = read_file(AT_FDCWD, what->plugin, MAX_PROGRAM, &wanted);
  if (is_done) {
    const bool is_there = read_file(directory, PLUGIN_TYPE, MAX_PROGRAM, &found);
    const bool is_same = is_there && found.length == wanted.length && found.mode == 0755 &&
                         memcmp(found.bytes, wanted.bytes, wanted.length) == 0;
    is_done = is_same || replace_file(directory, PLUGIN_TYPE, wanted.bytes, wanted.length, 0755) ||
              fail_errno(report, what->bin_directory, PLUGIN_TYPE);
    if (is_there) free(found.bytes);
    free(wanted.bytes);
  } else {
    fail_errno(report, what->plugin, "");
  }
  close(directory);
  return is_done;
}

/* For each configuration, in the order in which a runtime takes them. */
static bool for_configs(const installation *what, bool installs, char *report) {
  struct dirent **entries;
  const int directory = open(what->config_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return (!installs && errno == ENOENT) || fail_errno(report, what->config_directory, "");
  const int count = scandirat(directory, ".", &entries, is_config, by_bytes);
  bool is_done = count >= 0 || fail_errno(report, what->config_directory, "");
  if (installs && count == 0) is_done = fail(report, what->config_directory, "", "no CNI plugin has a configuration there yet");
  char chain_name[MAX_NAME + 32] = "";
  if (count > 0) name_chain(entries[0]->d_name, chain_name);
  for (int at = 0; at < count; at++) {
    const char *name = entries[at]->d_name;
    char other[MAX_REPORT];
    if (installs && at == 0) {
      is_done = install_entry(what, directory, name, report);
      if (is_done) snprintf(report, MAX_REPORT, "%s/%s", what->config_directory, chain_name);
    } else if (installs) {
      /* Runtimes do not read these. What the first one became is one of them. */
      if (strcmp(name, chain_name) != 0) clear(what->config_directory, directory, name, other);
    } else {
      is_done = clear(what->config_directory, directory, name, report) && is_done;
    }
    free(entries[at]);
  }
  if (count >= 0) free(entries);
  close(directory);
  return is_done;
}

bool install(const installation *what, char report[MAX_REPORT]) {
  return install_program(what, report) && for_configs(what, true, report);
}

bool take_out(const installation *what, char report[MAX_REPORT]) {
  if (!for_configs(what, false, report)) return false;
  const int directory = open(what->bin_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return errno == ENOENT || fail_errno(report, what->bin_directory, "");
  const bool is_gone = unlinkat(directory, PLUGIN_TYPE, 0) == 0 || errno == ENOENT;
  if (!is_gone) fail_errno(report, what->bin_directory, PLUGIN_TYPE);
  close(directory);
  return is_gone;
}
