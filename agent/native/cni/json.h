#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Containers within each other; what a runtime writes has five. */
#define MAX_JSON_DEPTH 64

/* A part of a text that the caller owns, without a NUL at its end. */
typedef struct {
  const char *at;
  size_t length;
} json_span;

typedef enum { JSON_FOUND, JSON_ABSENT, JSON_TWICE } json_search;

/*
 * Whether the text is one JSON value (RFC 8259) in UTF-8, and nothing else but space. All functions below want a value of a
 * text that passed this one.
 */
bool is_json(json_span text);

/* Without the space around it. */
json_span json_trimmed(json_span value);

/* The member of an object, by its name as it is decoded. A value that is no object has none. */
json_search find_member(json_span object, const char *name, json_span *out);

/*
 * The next element of an array, from `*offset` on, which is 0 at first. False: there is none, or the value is no array.
 */
bool next_element(json_span array, size_t *offset, json_span *out);

/* Decodes a string, with a NUL at its end. False: no string, one with a NUL or half a character in it, or a longer one. */
bool read_json_text(json_span value, char *out, size_t size);

/* False: no integer from 0 to `most`, or one that is not written with digits only. */
bool read_json_number(json_span value, unsigned long most, unsigned long *out);
