#define _GNU_SOURCE
#include "rule-programs.h"

#include "pod-sandboxes.h"

#include <stdio.h>
#include <string.h>

/* The scripts are those of agent/capture/firewall: installed-rules.ts and rule-set.ts. A test compares them. */
static const char read_script[] =
    "echo @tables4; %s-save || exit 90\n"
    "echo @ip4\nip -force -j -4 -batch - 2>/dev/null <<E\nrule show\nroute show table 111\nE\n"
    "demux=; read demux </proc/sys/net/ipv4/tcp_early_demux; echo; echo @demux; echo $demux\n"
    "test -e /proc/net/if_inet6 || exit 0\n"
    "read lo6 </proc/sys/net/ipv6/conf/lo/disable_ipv6; echo; echo @lo6; echo $lo6\n"
    "echo @tables6; %s-save || exit 91\n"
    "echo @ip6\nip -force -j -6 -batch - 2>/dev/null <<E\nrule show\nroute show table 111\nE\n"
    "exit 0";
static const char first_load_script[] =
    "load() { test -z \"$($1-save)\" && printf %%s \"$2\" | $1-restore --noflush -w 5; }\n"
    "load %s \"$1\" &\n"
    "first=$!; second=0\n"
    "test ! -e /proc/net/if_inet6 || load %s \"$2\" || second=1\n"
    "wait $first && exit $second";
static const char *const demux_scripts[] = {"echo 0 >/proc/sys/net/ipv4/tcp_early_demux",
                                            "echo 1 >/proc/sys/net/ipv4/tcp_early_demux"};
static const struct {
  const char *text;
  bool adds;
} route_lines[] = {{"rule add pref 32764 fwmark 0x111/0xfff lookup 111", true},
                   {"rule del pref 32764 fwmark 0x111/0xfff lookup 111", false},
                   {"route add local default dev lo table 111", true},
                   {"route del local default dev lo table 111", false}};
static const char *const back_ends[] = {"", "-nft", "-legacy"};
static const char *const tables[] = {"raw", "mangle", "filter", "nat"};

#define COUNT(of) (sizeof(of) / sizeof((of)[0]))

bool read_program(char *payload, size_t length, rule_program *out) {
  memset(out, 0, sizeof *out);
  for (;;) {
    const size_t size = strnlen(payload, length);
    if (size == length) return false;
    if (size == 0) break;
    if (out->argc == MAX_ARGUMENTS) return false;
    out->argv[out->argc++] = payload;
    payload += size + 1;
    length -= size + 1;
  }
  out->input = payload + 1;
  out->input_length = length - 1;
  return out->argc > 0;
}

/* Whether these are the arguments, and no more. */
static bool is_call(const rule_program *what, const char *const *argv, size_t argc) {
  if (what->argc != argc) return false;
  for (size_t at = 0; at < argc; at++)
    if (strcmp(what->argv[at], argv[at]) != 0) return false;
  return true;
}

#define IS_CALL(what, ...) is_call(what, (const char *const[]){__VA_ARGS__}, COUNT(((const char *const[]){__VA_ARGS__})))

/* A script in which two names of programs differ. */
static bool is_script(const char *script, const char *template) {
  char expected[2048], v4[32], v6[32];
  for (size_t at = 0; at < COUNT(back_ends); at++) {
    snprintf(v4, sizeof v4, "iptables%s", back_ends[at]);
    snprintf(v6, sizeof v6, "ip6tables%s", back_ends[at]);
    snprintf(expected, sizeof expected, template, v4, v6);
    if (strcmp(script, expected) == 0) return true;
  }
  return false;
}

/* Of an argument, which ends with a NUL. */
static const char *rewrite_argument(char *text, rule_place where) {
  size_t length = strlen(text);
  const char *refusal = rewrite_rules(text, &length, where);
  if (refusal == NULL) text[length] = '\0';
  return refusal;
}

static const char *script_refusal(rule_program *what, bool is_host) {
  const char *script = what->argv[2];
  if (what->argc == 3 && is_script(script, read_script)) return NULL;
  if (is_host) return "a script that is not of host capture";
  for (size_t at = 0; at < COUNT(demux_scripts); at++)
    if (what->argc == 3 && strcmp(script, demux_scripts[at]) == 0) return NULL;
  if (what->argc != 6 || !is_script(script, first_load_script) || strcmp(what->argv[3], "sh") != 0)
    return "a script that is not of capture";
  const char *refusal = rewrite_argument(what->argv[4], (rule_place){.is_host = is_host, .is_v6 = false});
  return refusal != NULL ? refusal : rewrite_argument(what->argv[5], (rule_place){.is_host = is_host, .is_v6 = true});
}

/* Host capture has no routes; those of a workload that was captured there can go. */
static const char *route_refusal(const rule_program *what, bool is_host) {
  const char *text = what->input;
  for (size_t left = what->input_length; left > 0;) {
    bool is_known = false;
    for (size_t at = 0; at < COUNT(route_lines) && !is_known; at++) {
      const char *line = route_lines[at].text;
      const size_t size = strlen(line);
      if (left <= size || memcmp(text, line, size) != 0 || text[size] != '\n') continue;
      if (is_host && route_lines[at].adds) return "a route that is not of host capture";
      is_known = true;
      text += size + 1;
      left -= size + 1;
    }
    if (!is_known) return "a route that is not of capture";
  }
  return NULL;
}

/* Of one of the iptables programs; `name` with its ending. */
static bool is_iptables(const char *name, const char *ending) {
  char expected[64];
  for (size_t at = 0; at < COUNT(back_ends); at++) {
    for (int is_v6 = 0; is_v6 < 2; is_v6++) {
      snprintf(expected, sizeof expected, "ip%stables%s%s", is_v6 ? "6" : "", back_ends[at], ending);
      if (strcmp(name, expected) == 0) return true;
    }
  }
  return false;
}

static bool is_number(const char *text) {
  return *text != '\0' && strlen(text) <= 20 && strspn(text, "0123456789") == strlen(text);
}

const char *program_refusal(rule_program *what, bool is_host) {
  const char *program = what->argv[0];
  if (is_iptables(program, "-restore")) {
    const rule_place where = {.is_host = is_host, .is_v6 = program[2] == '6'};
    return IS_CALL(what, program, "--noflush", "-w", "5") ? rewrite_rules(what->input, &what->input_length, where)
                                                          : "arguments that are not of capture";
  }
  if (IS_CALL(what, "ip", "-4", "-batch", "-") || IS_CALL(what, "ip", "-6", "-batch", "-")) return route_refusal(what, is_host);
  if (what->input_length > 0) return "an input that is not of capture";
  if (IS_CALL(what, "iptables", "-V") || IS_CALL(what, "cat", "/proc/net/tcp", "/proc/net/tcp6")) return NULL;
  if (is_iptables(program, "-save")) {
    if (what->argc == 1) return NULL;
    for (size_t at = 0; at < COUNT(tables); at++)
      if (IS_CALL(what, program, "-t", tables[at])) return NULL;
  }
  if (what->argc >= 3 && strcmp(program, "sh") == 0 && strcmp(what->argv[1], "-c") == 0) return script_refusal(what, is_host);
  if (what->argc == 3 && strcmp(program, FIND_HOLDER) == 0 && is_number(what->argv[1]) && is_number(what->argv[2])) return NULL;
  if (IS_CALL(what, POD_SANDBOXES)) return NULL;
  return "a program that is not of capture";
}
