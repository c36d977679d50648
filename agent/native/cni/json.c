/*
 * Reads JSON in place: a value is a part of the text, so what is handed on stays as it is, byte by byte. Nothing is
 * allocated. Every step looks at the end of the text before it looks at a byte.
 */
#include "json.h"

#include <stdint.h>
#include <string.h>

typedef struct {
  const unsigned char *at, *end;
} cursor;

static cursor cursor_of(json_span text) {
  const unsigned char *at = (const unsigned char *)text.at;
  return (cursor){at, at + text.length};
}

/* The next byte; -1: there is none. */
static int peek(const cursor *on) { return on->at < on->end ? *on->at : -1; }

static bool take(cursor *on, int byte) {
  if (peek(on) != byte) return false;
  on->at++;
  return true;
}

static void skip_space(cursor *on) {
  for (int next = peek(on); next == ' ' || next == '\t' || next == '\n' || next == '\r'; next = peek(on)) on->at++;
}

static bool is_digit(int byte) { return byte >= '0' && byte <= '9'; }

static int hex_value(int byte) {
  if (is_digit(byte)) return byte - '0';
  if (byte >= 'a' && byte <= 'f') return byte - 'a' + 10;
  return byte >= 'A' && byte <= 'F' ? byte - 'A' + 10 : -1;
}

static bool skip_word(cursor *on, const char *word) {
  for (; *word != '\0'; word++)
    if (!take(on, *word)) return false;
  return true;
}

static bool skip_digits(cursor *on) {
  if (!is_digit(peek(on))) return false;
  while (is_digit(peek(on))) on->at++;
  return true;
}

static bool skip_number(cursor *on) {
  take(on, '-');
  if (!take(on, '0') && !skip_digits(on)) return false;
  if (take(on, '.') && !skip_digits(on)) return false;
  if (peek(on) != 'e' && peek(on) != 'E') return true;
  on->at++;
  if (!take(on, '+')) take(on, '-');
  return skip_digits(on);
}

/* Four digits of an escape; -1: others. */
static int32_t take_unit(cursor *on) {
  int32_t unit = 0;
  for (int count = 0; count < 4; count++) {
    const int digit = hex_value(peek(on));
    if (digit < 0) return -1;
    unit = unit * 16 + digit;
    on->at++;
  }
  return unit;
}

/* One character of more than one byte (RFC 3629): no longer form than needed, no surrogate, none past U+10FFFF. */
static bool skip_utf8(cursor *on) {
  const unsigned first = *on->at++;
  const int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
  static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
  if (first < 0xc2 || first > 0xf4) return false;
  uint32_t point = first & (0x3fu >> more);
  for (int count = 0; count < more; count++) {
    const int next = peek(on);
    if (next < 0 || (next & 0xc0) != 0x80) return false;
    point = point << 6 | (uint32_t)(next & 0x3f);
    on->at++;
  }
  return point >= least[more] && point <= 0x10ffff && !(point >= 0xd800 && point <= 0xdfff);
}

static bool skip_string(cursor *on) {
  if (!take(on, '"')) return false;
  for (;;) {
    const int next = peek(on);
    if (next < ' ') return false;
    if (next >= 0x80) {
      if (!skip_utf8(on)) return false;
      continue;
    }
    on->at++;
    if (next == '"') return true;
    if (next != '\\') continue;
    const int escaped = peek(on);
    if (escaped < 0) return false;
    on->at++;
    if (escaped == 'u' ? take_unit(on) < 0 : escaped == 0 || strchr("\"\\/bfnrt", escaped) == NULL) return false;
  }
}

static bool skip_value(cursor *on, int depth);

static bool skip_members(cursor *on, int depth, bool has_names, int close) {
  on->at++;
  skip_space(on);
  if (take(on, close)) return true;
  for (;;) {
    if (has_names) {
      skip_space(on);
      if (!skip_string(on)) return false;
      skip_space(on);
      if (!take(on, ':')) return false;
    }
    if (!skip_value(on, depth + 1)) return false;
    skip_space(on);
    if (take(on, close)) return true;
    if (!take(on, ',')) return false;
  }
}

static bool skip_value(cursor *on, int depth) {
  if (depth > MAX_JSON_DEPTH) return false;
  skip_space(on);
  switch (peek(on)) {
    case '{':
      return skip_members(on, depth, true, '}');
    case '[':
      return skip_members(on, depth, false, ']');
    case '"':
      return skip_string(on);
    case 't':
      return skip_word(on, "true");
    case 'f':
      return skip_word(on, "false");
    case 'n':
      return skip_word(on, "null");
    default:
      return skip_number(on);
  }
}

bool is_json(json_span text) {
  cursor on = cursor_of(text);
  if (!skip_value(&on, 1)) return false;
  skip_space(&on);
  return on.at == on.end;
}

json_span json_trimmed(json_span value) {
  cursor on = cursor_of(value);
  skip_space(&on);
  const unsigned char *first = on.at;
  skip_value(&on, 1);
  return (json_span){(const char *)first, (size_t)(on.at - first)};
}

/* Puts a character into the text as UTF-8. False: there is no room for it and a NUL. */
static bool put_point(uint32_t point, char *out, size_t size, size_t *length) {
  const size_t bytes = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
  static const unsigned char heads[] = {0, 0, 0xc0, 0xe0, 0xf0};
  if (*length + bytes >= size) return false;
  for (size_t at = bytes; at-- > 0; point >>= 6)
    out[*length + at] = (char)(at == 0 ? heads[bytes] | point : 0x80 | (point & 0x3f));
  *length += bytes;
  return true;
}

/* What follows a backslash; 0: half a pair of surrogates, or NUL, which no text here may have. */
static uint32_t take_escaped(cursor *on) {
  const int escaped = *on->at++;
  if (escaped != 'u') {
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    const char *known = strchr(from, escaped);
    return known == NULL ? (uint32_t)escaped : (uint32_t)to[known - from];
  }
  const int32_t unit = take_unit(on);
  if (unit < 0xd800 || unit > 0xdfff) return (uint32_t)unit;
  if (unit > 0xdbff || !take(on, '\\') || !take(on, 'u')) return 0;
  const int32_t low = take_unit(on);
  return low < 0xdc00 || low > 0xdfff ? 0 : 0x10000 + ((uint32_t)(unit - 0xd800) << 10) + (uint32_t)(low - 0xdc00);
}

bool read_json_text(json_span value, char *out, size_t size) {
  cursor on = cursor_of(json_trimmed(value));
  size_t length = 0;
  if (!take(&on, '"')) return false;
  while (peek(&on) != '"') {
    if (!take(&on, '\\')) {
      if (length + 1 >= size) return false;
      out[length++] = (char)*on.at++;
      continue;
    }
    const uint32_t point = take_escaped(&on);
    if (point == 0 || !put_point(point, out, size, &length)) return false;
  }
  out[length] = '\0';
  return true;
}

bool read_json_number(json_span value, unsigned long most, unsigned long *out) {
  cursor on = cursor_of(json_trimmed(value));
  unsigned long number = 0;
  if (on.at == on.end) return false;
  for (; on.at < on.end; on.at++) {
    if (!is_digit(*on.at)) return false;
    const unsigned long digit = (unsigned long)(*on.at - '0');
    if (digit > most || number > (most - digit) / 10) return false;
    number = number * 10 + digit;
  }
  *out = number;
  return true;
}

json_search find_member(json_span object, const char *name, json_span *out) {
  cursor on = cursor_of(json_trimmed(object));
  json_search found = JSON_ABSENT;
  char key[64];
  if (!take(&on, '{')) return JSON_ABSENT;
  skip_space(&on);
  while (peek(&on) == '"') {
    const json_span named = {(const char *)on.at, (size_t)(on.end - on.at)};
    const bool is_it = read_json_text(named, key, sizeof key) && strcmp(key, name) == 0;
    skip_string(&on);
    skip_space(&on);
    on.at++;
    skip_space(&on);
    const unsigned char *first = on.at;
    skip_value(&on, 1);
    if (is_it) {
      if (found == JSON_FOUND) return JSON_TWICE;
      found = JSON_FOUND;
      *out = (json_span){(const char *)first, (size_t)(on.at - first)};
    }
    skip_space(&on);
    if (!take(&on, ',')) break;
    skip_space(&on);
  }
  return found;
}

bool next_element(json_span array, size_t *offset, json_span *out) {
  cursor on = cursor_of(array);
  on.at += *offset;
  skip_space(&on);
  if (!take(&on, *offset == 0 ? '[' : ',')) return false;
  skip_space(&on);
  const unsigned char *first = on.at;
  if (!skip_value(&on, 1)) return false;
  *out = (json_span){(const char *)first, (size_t)(on.at - first)};
  *offset = (size_t)(on.at - (const unsigned char *)array.at);
  return true;
}
