#define _GNU_SOURCE
#include "keep-capabilities.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* More than any kernel has. */
#define MOST_CAPABILITIES 64

typedef struct {
  struct __user_cap_header_struct head;
  /* The lower 32, and the others. */
  struct __user_cap_data_struct halves[2];
} capability_sets;

static capability_sets of_this_process(void) {
  return (capability_sets){.head = {.version = _LINUX_CAPABILITY_VERSION_3}};
}

static bool read_sets(capability_sets *out) {
  *out = of_this_process();
  return syscall(SYS_capget, &out->head, out->halves) == 0;
}

static uint64_t usable(const capability_sets *sets) {
  return sets->halves[0].permitted | (uint64_t)sets->halves[1].permitted << 32;
}

bool read_capabilities(uint64_t *out) {
  capability_sets sets;
  if (!read_sets(&sets)) return false;
  *out = usable(&sets);
  return true;
}

bool keep_capabilities(uint64_t wanted) {
  capability_sets found;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || !read_sets(&found)) return false;
  /* Before the right to do that goes. What the kernel does not know, or may not be taken, is not there or stays out of reach. */
  for (unsigned each = 0; each < MOST_CAPABILITIES; each++)
    if ((wanted & CAPABILITY(each)) == 0) prctl(PR_CAPBSET_DROP, each, 0, 0, 0);
  const uint64_t kept = usable(&found) & wanted;
  capability_sets sets = of_this_process();
  for (int half = 0; half < 2; half++)
    sets.halves[half].permitted = sets.halves[half].effective = (uint32_t)(kept >> 32 * half);
  if (syscall(SYS_capset, &sets.head, sets.halves) != 0 || !read_sets(&found)) return false;
  errno = EPERM;
  return usable(&found) == kept && (found.halves[0].inheritable | found.halves[1].inheritable) == 0;
}
