#define _GNU_SOURCE
#include "chain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More than any chain has. */
#define MAX_PLUGINS 64

typedef struct {
  json_span plugins;
  json_span elements[MAX_PLUGINS];
  bool is_ours[MAX_PLUGINS];
  size_t count, ours;
} chain;

static bool is_ours(json_span element) {
  json_span value;
  char type[64];
  return find_member(element, "type", &value) == JSON_FOUND && read_json_text(value, type, sizeof type) &&
         strcmp(type, PLUGIN_TYPE) == 0;
}

/* NULL: it is a chain. */
static const char *read_chain(json_span list, chain *out) {
  size_t offset = 0;
  memset(out, 0, sizeof *out);
  if (!is_json(list)) return "it is no JSON";
  if (find_member(list, "plugins", &out->plugins) != JSON_FOUND || *out->plugins.at != '[')
    return "it has no one list of plugins";
  while (out->count < MAX_PLUGINS && next_element(out->plugins, &offset, &out->elements[out->count])) {
    out->is_ours[out->count] = is_ours(out->elements[out->count]);
    if (out->is_ours[out->count++]) out->ours++;
  }
  if (out->count == MAX_PLUGINS) return "it has too many plugins";
  return out->count == out->ours ? "it has no other plugin" : NULL;
}

bool has_entry(json_span list) {
  chain found;
  read_chain(list, &found);
  return found.ours > 0;
}

static void put(FILE *to, const char *from, const char *end) { fwrite(from, 1, (size_t)(end - from), to); }

static const char *end_of(json_span span) { return span.at + span.length; }

static chain_text failed(const char *problem) { return (chain_text){.problem = problem}; }

static chain_text closed(FILE *file, chain_text *made) {
  const bool is_written = file != NULL && !ferror(file);
  if (file != NULL && fclose(file) == 0 && is_written) return *made;
  free(made->text);
  return failed("there is no memory for it");
}

/* Between elements stays what was between them; between the last one and ours comes what is before the first. */
static void put_chain(FILE *to, const chain *from, json_span list, json_span entry) {
  const json_span *first = &from->elements[0], *last = &from->elements[from->count - 1];
  put(to, list.at, first->at);
  bool is_first = true;
  for (size_t at = 0; at < from->count; at++) {
    if (from->is_ours[at]) continue;
    if (!is_first) put(to, end_of(from->elements[at - 1]), from->elements[at].at);
    put(to, from->elements[at].at, end_of(from->elements[at]));
    is_first = false;
  }
  if (entry.length > 0) {
    putc(',', to);
    put(to, from->plugins.at + 1, first->at);
    put(to, entry.at, end_of(entry));
  }
  put(to, end_of(*last), end_of(list));
}

/* Whether two values are the same but for the space outside of their strings. */
static bool is_same_value(json_span one, json_span other) {
  size_t at = 0, there = 0;
  bool is_text = false;
  for (;; at++, there++) {
    while (!is_text && at < one.length && strchr(" \t\r\n", one.at[at]) != NULL) at++;
    while (!is_text && there < other.length && strchr(" \t\r\n", other.at[there]) != NULL) there++;
    if (at == one.length || there == other.length) return at == one.length && there == other.length;
    if (one.at[at] != other.at[there]) return false;
    if (is_text && one.at[at] == '\\') {
      at++, there++;
      if (at == one.length || there == other.length || one.at[at] != other.at[there]) return false;
    } else if (one.at[at] == '"') {
      is_text = !is_text;
    }
  }
}

chain_text with_entry(json_span list, json_span entry) {
  chain found;
  const char *problem = read_chain(list, &found);
  if (problem != NULL) return failed(problem);
  chain_text made = {0};
  const size_t last = found.count - 1;
  /* What another program has put in other lines. */
  if (found.ours == 1 && found.is_ours[last] && is_same_value(found.elements[last], entry))
    return (chain_text){.is_same = true};
  FILE *file = open_memstream(&made.text, &made.length);
  if (file != NULL) put_chain(file, &found, list, entry);
  if (file != NULL) fflush(file);
  made = closed(file, &made);
  made.is_same = found.ours == 0 && entry.length == 0;
  return made;
}

chain_text chain_of(json_span plugin, json_span entry) {
  json_span name, version, type;
  if (!is_json(plugin)) return failed("it is no JSON");
  plugin = json_trimmed(plugin);
  if (find_member(plugin, "name", &name) != JSON_FOUND) return failed("it has no one name");
  if (find_member(plugin, "type", &type) != JSON_FOUND) return failed("it has no one type");
  const json_search found = find_member(plugin, "cniVersion", &version);
  if (found == JSON_TWICE) return failed("it has cniVersion twice");
  chain_text made = {0};
  FILE *file = open_memstream(&made.text, &made.length);
  if (file != NULL) {
    putc('{', file);
    if (found == JSON_FOUND) fprintf(file, "\"cniVersion\": %.*s, ", (int)version.length, version.at);
    fprintf(file, "\"name\": %.*s, \"plugins\": [\n", (int)name.length, name.at);
    put(file, plugin.at, end_of(plugin));
    fputs(",\n", file);
    put(file, entry.at, end_of(entry));
    fputs("\n]}\n", file);
    fflush(file);
  }
  return closed(file, &made);
}
