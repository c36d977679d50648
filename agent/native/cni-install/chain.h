#pragma once

#include "../cni/json.h"

#define PLUGIN_TYPE "culvert-cni"

/* A text that the caller frees. `problem` not NULL: there is none. */
typedef struct {
  char *text;
  size_t length;
  const char *problem;
  /* Nothing is to be changed. `text` may be NULL then. */
  bool is_same;
} chain_text;

/*
 * The configuration of a chain (.conflist) with this entry as its last plugin, or without one of ours where `entry` is empty. All
 * else stays as it is, byte by byte. An entry that was put in and taken out leaves the text as it was.
 */
chain_text with_entry(json_span list, json_span entry);

/* The chain (.conflist) of the configuration of one plugin (.conf), with this entry. */
chain_text chain_of(json_span plugin, json_span entry);

/* Whether the text is a chain with an entry of ours. */
bool has_entry(json_span list);
