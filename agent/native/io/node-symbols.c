#define _GNU_SOURCE
#include "node-symbols.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

node_symbols node;

static char problem[160];
static pthread_once_t looked = PTHREAD_ONCE_INIT;

static void look_up(void) {
#define X(result, name, arguments) \
  if (problem[0] == '\0') { \
    *(void **)&node.name = dlsym(RTLD_DEFAULT, #name); \
    if (node.name == NULL) snprintf(problem, sizeof problem, "this Node hides the symbol " #name); \
  }
  NODE_SYMBOLS(X)
#undef X
  /* BoringSSL has many of these names and says 1. */
  if (problem[0] == '\0' && node.OpenSSL_version_num() >> 28 != 3)
    snprintf(problem, sizeof problem, "this Node has another TLS library than OpenSSL 3");
}

const char *find_node_symbols(void) {
  pthread_once(&looked, look_up);
  return problem[0] == '\0' ? NULL : problem;
}
