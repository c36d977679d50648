/*
 * iptables-restore runs as root, takes options in any line, and one of them names a program to run (--modprobe). It also reads
 * lines of 10 KiB and takes what is left of a longer one for the next. So a line passes only if it is a rule that capture
 * writes, each word of a type, and iptables gets no byte of the client: the rules are written again from what was understood.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rule-programs.h"

#define MAX_LINE 1023
#define MAX_WORDS 40
#define MAX_PATH_LENGTH 500
#define MAX_PURPOSE 48
#define MAX_PORTS 15
#define CHAIN_PREFIX "CULVERT_"
#define PURPOSE_PREFIX "culvert:"
#define PROBES_PORT "15004"
#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"
#define COUNT(of) (sizeof(of) / sizeof((of)[0]))

/* Of one line, each with a NUL. */
typedef struct {
  char bytes[MAX_LINE + MAX_WORDS + 1];
  const char *text[MAX_WORDS];
  size_t count;
} words;

typedef bool (*value_check)(const char *value, bool is_v6);

static bool is_one_of(const char *const *list, const char *word) {
  for (; *list != NULL; list++)
    if (strcmp(*list, word) == 0) return true;
  return false;
}

#define IS_ONE_OF(word, ...) is_one_of((const char *const[]){__VA_ARGS__, NULL}, word)

/* Decimal, without a sign or a leading zero; at the end of the text, or before `*end` when that is not NULL. */
static bool read_number(const char *text, uint64_t most, const char **end) {
  const size_t digits = strspn(text, DIGITS);
  if (digits == 0 || digits > 10 || (digits > 1 && text[0] == '0') || strtoull(text, NULL, 10) > most) return false;
  if (end != NULL) *end = text + digits;
  return end != NULL || text[digits] == '\0';
}

static bool is_protocol(const char *value, bool is_v6) {
  return IS_ONE_OF(value, "tcp", is_v6 ? "ipv6-icmp" : "icmp");
}
/* Echo request and reply. */
static bool is_ping(const char *value, bool is_v6) {
  return is_v6 ? IS_ONE_OF(value, "128", "129") : IS_ONE_OF(value, "8", "0");
}
static bool is_loopback(const char *value, bool is_v6) {
  (void)is_v6;
  return strcmp(value, "lo") == 0;
}
static bool is_purpose(const char *value, bool is_v6) {
  (void)is_v6;
  const size_t skipped = strlen(PURPOSE_PREFIX);
  if (strncmp(value, PURPOSE_PREFIX, skipped) != 0) return false;
  const size_t length = strlen(value + skipped);
  return length >= 1 && length <= MAX_PURPOSE && strspn(value + skipped, LOWER DIGITS "-") == length;
}
static bool is_address(const char *value, bool is_v6) {
  char address[INET6_ADDRSTRLEN], parsed[16];
  const size_t length = strcspn(value, "/");
  if (length >= sizeof address) return false;
  memcpy(address, value, length);
  address[length] = '\0';
  return inet_pton(is_v6 ? AF_INET6 : AF_INET, address, parsed) == 1 &&
         (value[length] == '\0' || read_number(value + length + 1, is_v6 ? 128 : 32, NULL));
}
static bool is_port_range(const char *value, bool is_v6) {
  (void)is_v6;
  const char *rest;
  return read_number(value, UINT16_MAX, &rest) && (*rest == '\0' || (*rest == ':' && read_number(rest + 1, UINT16_MAX, NULL)));
}
static bool is_port_list(const char *value, bool is_v6) {
  (void)is_v6;
  for (int count = 1; count <= MAX_PORTS; count++) {
    if (!read_number(value, UINT16_MAX, &value)) return false;
    if (*value == '\0') return true;
    if (*value++ != ',') return false;
  }
  return false;
}
static bool is_user(const char *value, bool is_v6) {
  (void)is_v6;
  return read_number(value, UINT32_MAX - 1, NULL);
}
/* Outside of the namespace that the kernel starts with (PROC_CGROUP_INIT_INO), the root is the container's, not the host's. */
static bool is_in_container(void) {
  char found[64];
  const ssize_t length = readlink("/proc/self/ns/cgroup", found, sizeof found - 1);
  if (length <= 0) return false;
  found[length] = '\0';
  return strcmp(found, "cgroup:[4026531835]") != 0;
}
/* agent/capture/own-cgroup.ts and probers.ts take no others. */
static bool is_cgroup(const char *value, bool is_v6) {
  (void)is_v6;
  const size_t length = strlen(value);
  if (strcmp(value, "/") == 0) return is_in_container();
  if (value[0] != '/' || length < 2 || length > MAX_PATH_LENGTH) return false;
  if (strspn(value, LOWER UPPER DIGITS "_@:.-/") != length) return false;
  return strstr(value, "//") == NULL && strstr(value, "/.") == NULL && value[length - 1] != '/';
}
/* The agent's own (agent/ports.ts), with the mask of the bits that are its. */
static bool is_own_mark(const char *value, bool is_v6) {
  (void)is_v6;
  return IS_ONE_OF(value, "0x539/0xfff", "0x111/0xfff", "0x53a/0xfff", "0x53b/0xfff");
}
static bool is_reply_mark(const char *value, bool is_v6) {
  (void)is_v6;
  return strcmp(value, "0x111/0xfff") == 0;
}
static bool is_own_zone(const char *value, bool is_v6) {
  (void)is_v6;
  return strcmp(value, "1337") == 0;
}
static bool is_reply(const char *value, bool is_v6) {
  (void)is_v6;
  return strcmp(value, "REPLY") == 0;
}
static bool is_local(const char *value, bool is_v6) {
  (void)is_v6;
  return strcmp(value, "LOCAL") == 0;
}
static bool is_reset(const char *value, bool is_v6) {
  (void)is_v6;
  return strcmp(value, "tcp-reset") == 0;
}
static bool is_own_port(const char *value, bool is_v6) {
  (void)is_v6;
  return IS_ONE_OF(value, "15001", "15002", PROBES_PORT, "15006");
}
static bool is_own_queue(const char *value, bool is_v6) {
  (void)is_v6;
  return strcmp(value, "15002") == 0;
}
static bool is_flags(const char *value, bool is_v6) {
  (void)is_v6;
  return strcmp(value, "FIN,SYN,RST,ACK") == 0;
}

typedef enum {
  OF_PROTOCOL,
  OF_INPUT,
  OF_OUTPUT,
  OF_DESTINATION,
  OF_SYN,
  OF_FLAGS,
  OF_TO_PORT,
  OF_FROM_PORT,
  OF_PORTS,
  OF_MARK,
  OF_CONNMARK,
  OF_CGROUP,
  OF_DESTINATION_TYPE,
  OF_TRANSPARENT,
  OF_NO_WILDCARD,
  OF_USER,
  OF_DIRECTION,
  OF_COMMENT,
  OF_ICMP_TYPE,
  OF_ICMP6_TYPE,
  /* Of targets, each of which must have its own. */
  OF_REJECT,
  OF_REDIRECT,
  OF_SET_MARK,
  OF_SET_CONNMARK,
  OF_QUEUE,
  /* One of the two. */
  OF_ZONE,
  OF_UNTRACKED,
  OPTIONS,
} option;

static const struct {
  const char *name;
  /* The match or target that it follows; NULL: none. */
  const char *module;
  /* NULL: it has no value. */
  value_check check;
  bool can_be_not;
} options[OPTIONS] = {
    [OF_PROTOCOL] = {"-p", NULL, is_protocol, true},
    [OF_INPUT] = {"-i", NULL, is_loopback, false},
    [OF_OUTPUT] = {"-o", NULL, is_loopback, true},
    [OF_DESTINATION] = {"-d", NULL, is_address, false},
    [OF_SYN] = {"--syn", "tcp", NULL, true},
    [OF_FLAGS] = {"--tcp-flags", "tcp", is_flags, true},
    [OF_TO_PORT] = {"--dport", "tcp", is_port_range, false},
    [OF_FROM_PORT] = {"--sport", "tcp", is_port_range, false},
    [OF_PORTS] = {"--dports", "multiport", is_port_list, false},
    [OF_MARK] = {"--mark", "mark", is_own_mark, false},
    [OF_CONNMARK] = {"--mark", "connmark", is_own_mark, false},
    [OF_CGROUP] = {"--path", "cgroup", is_cgroup, false},
    [OF_DESTINATION_TYPE] = {"--dst-type", "addrtype", is_local, true},
    [OF_TRANSPARENT] = {"--transparent", "socket", NULL, false},
    [OF_NO_WILDCARD] = {"--nowildcard", "socket", NULL, false},
    [OF_USER] = {"--uid-owner", "owner", is_user, false},
    [OF_DIRECTION] = {"--ctdir", "conntrack", is_reply, false},
    [OF_COMMENT] = {"--comment", "comment", is_purpose, false},
    [OF_ICMP_TYPE] = {"--icmp-type", "icmp", is_ping, false},
    [OF_ICMP6_TYPE] = {"--icmpv6-type", "icmp6", is_ping, false},
    [OF_REJECT] = {"--reject-with", "REJECT", is_reset, false},
    [OF_REDIRECT] = {"--to-ports", "REDIRECT", is_own_port, false},
    [OF_ZONE] = {"--zone-orig", "CT", is_own_zone, false},
    [OF_UNTRACKED] = {"--notrack", "CT", NULL, false},
    [OF_SET_MARK] = {"--set-xmark", "MARK", is_reply_mark, false},
    [OF_SET_CONNMARK] = {"--set-xmark", "CONNMARK", is_reply_mark, false},
    [OF_QUEUE] = {"--queue-num", "NFQUEUE", is_own_queue, false},
};

static const char *const matches[] = {"comment",   "tcp",    "mark",  "connmark",  "cgroup", "addrtype",
                                      "multiport", "socket", "owner", "conntrack", "icmp", "icmp6", NULL};
static const char *const targets[] = {"ACCEPT", "DROP", "RETURN",   "REJECT",  "REDIRECT",
                                      "CT",     "MARK", "CONNMARK", "NFQUEUE", NULL};

/* What a rule has. */
typedef struct {
  /* Its value, or its own name where it has none; NULL: it is not there. */
  const char *values[OPTIONS];
  const char *target;
  bool leads_to_own;
} rule;

/* Words between single spaces. One may be quoted, and then has neither a space nor a quote in it. */
static bool split(const char *line, size_t length, words *out) {
  if (length == 0 || length > MAX_LINE) return false;
  char *to = out->bytes;
  out->count = 0;
  for (size_t at = 0; at < length; at++) {
    if (out->count == MAX_WORDS) return false;
    size_t end = at;
    while (end < length && line[end] != ' ') end++;
    size_t from = at, until = end;
    if (end - at > 2 && line[at] == '"' && line[end - 1] == '"') from++, until--;
    if (from == until || (end < length && end + 1 == length)) return false;
    out->text[out->count++] = to;
    for (; from < until; from++) {
      const char each = line[from];
      if (!isalnum((unsigned char)each) && (each == '\0' || strchr("*_.,:/@!-[]", each) == NULL)) return false;
      *to++ = each;
    }
    *to++ = '\0';
    at = end;
  }
  return true;
}

static bool is_built_in(const char *name) { return IS_ONE_OF(name, "PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"); }

static bool is_own_chain(const char *name) {
  const size_t length = strlen(name), skipped = strlen(CHAIN_PREFIX);
  return length > skipped && length <= 28 && strncmp(name, CHAIN_PREFIX, skipped) == 0 && strspn(name, UPPER DIGITS "_") == length;
}

static bool read_option(const words *of, size_t *at, const char *module, bool is_not, bool is_v6, rule *out) {
  for (size_t each = 0; each < OPTIONS; each++) {
    const bool is_here = options[each].module == NULL ? out->target == NULL
                                                      : module != NULL && strcmp(options[each].module, module) == 0;
    if (!is_here || strcmp(of->text[*at], options[each].name) != 0) continue;
    if (out->values[each] != NULL || (is_not && !options[each].can_be_not)) return false;
    out->values[each] = of->text[*at];
    if (options[each].check == NULL) return true;
    if (++*at == of->count || !options[each].check(of->text[*at], is_v6)) return false;
    out->values[each] = of->text[*at];
    return each != OF_FLAGS || (++*at < of->count && strcmp(of->text[*at], "SYN") == 0);
  }
  return false;
}

/* The words of a rule after its chain: nothing twice, and its target last. */
static bool read_rule(const words *of, size_t from, bool is_v6, rule *out) {
  const char *module = NULL;
  const char *seen[COUNT(matches) + 1] = {NULL};
  size_t modules = 0;
  memset(out, 0, sizeof *out);
  for (size_t at = from; at < of->count; at++) {
    const bool is_not = strcmp(of->text[at], "!") == 0;
    if (is_not && ++at == of->count) return false;
    const bool is_match = strcmp(of->text[at], "-m") == 0;
    if (!is_match && strcmp(of->text[at], "-j") != 0) {
      if (!read_option(of, &at, module, is_not, is_v6, out)) return false;
      continue;
    }
    if (is_not || out->target != NULL || ++at == of->count) return false;
    module = of->text[at];
    if (!is_match) {
      out->target = module;
      out->leads_to_own = is_own_chain(module);
      if (!out->leads_to_own && !is_one_of(targets, module)) return false;
    } else if (!is_one_of(matches, module) || is_one_of(seen, module)) return false;
    else seen[modules++] = module;
  }
  if (out->target == NULL) return false;
  /* Without its option a target would do something else. */
  if (strcmp(out->target, "CT") == 0) return (out->values[OF_ZONE] != NULL) != (out->values[OF_UNTRACKED] != NULL);
  for (size_t each = OF_REJECT; each < OF_ZONE; each++)
    if (strcmp(options[each].module, out->target) == 0 && out->values[each] == NULL) return false;
  return true;
}

static bool is_single_address(const char *value) {
  const char *prefix = strchr(value, '/');
  return prefix == NULL || strcmp(prefix, strchr(value, ':') == NULL ? "/32" : "/128") == 0;
}

/* A rule of host capture (agent/capture/firewall/host-rules.ts): connections of a prober to one address, and the guard. */
static bool is_of_host(const char *table, const char *chain, const rule *what) {
  if (strcmp(table, "filter") == 0 && strcmp(chain, CHAIN_PREFIX "INPUT") == 0)
    return IS_ONE_OF(what->target, "RETURN", "REJECT") && what->values[OF_PORTS] != NULL &&
           strcmp(what->values[OF_PORTS], PROBES_PORT) == 0;
  if (strcmp(table, "nat") != 0 || strcmp(chain, CHAIN_PREFIX "OUTPUT") != 0) return false;
  if (strcmp(what->target, "RETURN") == 0) return true;
  return strcmp(what->target, "REDIRECT") == 0 && strcmp(what->values[OF_REDIRECT], PROBES_PORT) == 0 &&
         what->values[OF_DESTINATION] != NULL && is_single_address(what->values[OF_DESTINATION]) &&
         what->values[OF_SYN] != NULL &&
         (what->values[OF_USER] != NULL || what->values[OF_CGROUP] != NULL || what->values[OF_FROM_PORT] != NULL);
}

static bool is_of_workload(const rule *what) {
  const char *port = what->values[OF_REDIRECT];
  return what->values[OF_USER] == NULL && (port == NULL || strcmp(port, PROBES_PORT) != 0);
}

/* All of a kind of connection, so that no option tells which. */
static bool is_jump(const char *table, const char *hook, const rule *what, bool is_host) {
  for (size_t each = 0; each < OPTIONS; each++)
    if (what->values[each] != NULL && each != OF_PROTOCOL && each != OF_INPUT && each != OF_COMMENT) return false;
  if (!what->leads_to_own) return false;
  if (!is_host) return true;
  if (strcmp(table, "filter") == 0) return strcmp(hook, "INPUT") == 0 && what->values[OF_INPUT] != NULL;
  return strcmp(table, "nat") == 0 && strcmp(hook, "OUTPUT") == 0;
}

static bool is_allowed(const words *line, const char **table, rule_place where) {
  static const char *const tables[] = {"raw", "mangle", "filter", "nat"};
  rule what;
  const char *first = line->text[0], *second = line->count > 1 ? line->text[1] : "";
  if (first[0] == '*') {
    for (size_t at = 0; at < COUNT(tables); at++) {
      if (*table != NULL || line->count != 1 || strcmp(first + 1, tables[at]) != 0) continue;
      *table = tables[at];
      return true;
    }
    return false;
  }
  if (*table == NULL) return false;
  if (strcmp(first, "COMMIT") == 0) {
    *table = NULL;
    return line->count == 1;
  }
  if (first[0] == ':')
    return line->count == 3 && is_own_chain(first + 1) && strcmp(second, "-") == 0 && strcmp(line->text[2], "[0:0]") == 0;
  if (strcmp(first, "-F") == 0) return line->count == 2 && is_own_chain(second);
  /* A built-in chain goes only when it is empty, and with it a table that is the agent's. */
  if (strcmp(first, "-X") == 0) return line->count == 2 && (is_own_chain(second) || is_built_in(second));
  if (strcmp(first, "-A") == 0)
    return is_own_chain(second) && read_rule(line, 2, where.is_v6, &what) && !what.leads_to_own &&
           (where.is_host ? is_of_host(*table, second, &what) : is_of_workload(&what));
  if (strcmp(first, "-I") == 0)
    return is_built_in(second) && line->count > 3 && strcmp(line->text[2], "1") == 0 &&
           read_rule(line, 3, where.is_v6, &what) && is_jump(*table, second, &what, where.is_host);
  if (strcmp(first, "-D") == 0)
    return read_rule(line, 2, where.is_v6, &what) && (is_own_chain(second) || (is_built_in(second) && what.leads_to_own));
  return false;
}

/* Never longer than what was read, so it has a place there. */
static char *write_line(const words *line, char *to) {
  for (size_t at = 0; at < line->count; at++) {
    const size_t size = strlen(line->text[at]);
    memcpy(to, line->text[at], size);
    to += size;
    *to++ = at + 1 == line->count ? '\n' : ' ';
  }
  return to;
}

const char *rewrite_rules(char *text, size_t *length, rule_place where) {
  static words line;
  const char *table = NULL, *from = text;
  char *to = text;
  for (size_t left = *length; left > 0;) {
    const char *end = memchr(from, '\n', left);
    if (end == NULL) return "rules whose last line does not end";
    const size_t size = (size_t)(end - from);
    if (!split(from, size, &line) || !is_allowed(&line, &table, where)) return "a rule that is not of capture";
    to = write_line(&line, to);
    from = end + 1;
    left -= size + 1;
  }
  if (table != NULL) return "rules without an end";
  *length = (size_t)(to - text);
  return NULL;
}
