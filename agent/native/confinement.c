/*
 * How the process that parses the network gives up what it does not need: its user, its capabilities, and system calls. All
 * threads together, also those that Node has started: setresuid(2) of libc is for all of them, and so is a filter with TSYNC,
 * which takes "no new privileges" along. What became of it is read back, thread by thread.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "node-values.h"

#if defined(__x86_64__)
#define OWN_ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OWN_ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

/* The first number of the x32 calls of x86-64, which would be other names for the same calls. */
#define FIRST_X32 0x40000000u

/* What no part of the agent calls, and what an intruder would begin with. Newer ones have the same number everywhere. */
static const unsigned refused_calls[] = {
    SYS_execve,          SYS_execveat,      SYS_ptrace,      SYS_process_vm_readv, SYS_process_vm_writev, SYS_setns,
    SYS_unshare,         SYS_mount,         SYS_umount2,     SYS_pivot_root,       SYS_chroot,            SYS_bpf,
    SYS_perf_event_open, SYS_userfaultfd,   SYS_add_key,     SYS_request_key,      SYS_keyctl,            SYS_init_module,
    SYS_finit_module,    SYS_delete_module, SYS_kexec_load,  SYS_reboot,           SYS_swapon,            SYS_swapoff,
    SYS_sethostname,     SYS_setdomainname, SYS_acct,        SYS_quotactl,         SYS_settimeofday,      SYS_clock_settime,
    SYS_adjtimex,        SYS_personality,   SYS_move_pages,  SYS_open_by_handle_at,
    /* Not io_uring_enter: libuv of Node 26 may have made a ring before, and ends the process when it cannot use that. */
    425 /* io_uring_setup */, 427 /* io_uring_register */, 428 /* open_tree */, 429 /* move_mount */, 430 /* fsopen */, 431 /* fsconfig */, 432 /* fsmount */, 433 /* fspick */, 438 /* pidfd_getfd */, 440 /* process_madvise */,
    442 /* mount_setattr */,
#ifdef SYS_kexec_file_load
    SYS_kexec_file_load,
#endif
};

#define REFUSED (sizeof refused_calls / sizeof refused_calls[0])
/* What it opens sockets of. */
static const unsigned families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};

#define FAMILIES (sizeof families / sizeof families[0])
#define CLONE3 435
/* CLONE_NEWTIME is the lowest bit of the signal in clone(2), and means nothing there. */
#define NEW_NAMESPACES \
  (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

#define LOAD(field) (struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(what) (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, what)
#define JUMP(how, number, yes, no) (struct sock_filter) BPF_JUMP(BPF_JMP | how | BPF_K, number, (uint8_t)(yes), (uint8_t)(no))

/* The half of an argument that has its lower 32 bits, of a machine that has them first. */
#define LOW_HALF(argument) args[argument]

static failure install_filter(void) {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return failed("give up new privileges");
#ifdef OWN_ARCHITECTURE
  static const uint32_t refuse = SECCOMP_RET_ERRNO | EPERM;
  struct sock_filter program[REFUSED + FAMILIES + 20];
  size_t at = 0;
  program[at++] = LOAD(arch);
  program[at++] = JUMP(BPF_JEQ, OWN_ARCHITECTURE, 1, 0);
  program[at++] = RETURN(refuse);
  program[at++] = LOAD(nr);
  program[at++] = JUMP(BPF_JGE, FIRST_X32, 0, 1);
  program[at++] = RETURN(refuse);
  for (size_t each = 0; each < REFUSED; each++)
    program[at++] = JUMP(BPF_JEQ, refused_calls[each], REFUSED - each - 1, each + 1 == REFUSED ? 1 : 0);
  program[at++] = RETURN(refuse);
  /* Its flags are in memory, where a filter cannot look. libc takes clone then. */
  program[at++] = JUMP(BPF_JEQ, CLONE3, 0, 1);
  program[at++] = RETURN(SECCOMP_RET_ERRNO | ENOSYS);
  program[at++] = JUMP(BPF_JEQ, SYS_clone, 0, 3);
  program[at++] = LOAD(LOW_HALF(0));
  program[at++] = JUMP(BPF_JSET, NEW_NAMESPACES, 0, FAMILIES + 4);
  program[at++] = RETURN(refuse);
  program[at++] = JUMP(BPF_JEQ, SYS_socket, 0, FAMILIES + 2);
  program[at++] = LOAD(LOW_HALF(0));
  for (size_t each = 0; each < FAMILIES; each++) program[at++] = JUMP(BPF_JEQ, families[each], FAMILIES - each, 0);
  program[at++] = RETURN(refuse);
  program[at++] = RETURN(SECCOMP_RET_ALLOW);
  const struct sock_fprog filter = {(unsigned short)at, program};
  long outcome = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter);
  /* Above 0: the thread that could not follow. */
  if (outcome > 0) errno = ESRCH;
  if (outcome != 0 && errno != ENOSYS && errno != EINVAL) return failed("filter system calls (seccomp)");
#endif
  return success;
}

/* Whether a thread has no capability that it can use, none that it can take, and gets none by exec. */
static bool is_without_rights(const char *status) {
  static const char *const masks[] = {"\nCapInh:", "\nCapPrm:", "\nCapEff:", "\nCapAmb:"};
  for (size_t at = 0; at < sizeof masks / sizeof masks[0]; at++) {
    const char *found = strstr(status, masks[at]);
    if (found == NULL || strtoull(found + strlen(masks[at]), NULL, 16) != 0) return false;
  }
  return strstr(status, "\nNoNewPrivs:\t1\n") != NULL;
}

static failure assert_without_rights(void) {
  DIR *threads = opendir("/proc/self/task");
  if (threads == NULL) return failed("list the threads");
  failure result = success;
  for (struct dirent *each = readdir(threads); each != NULL && result.step == NULL; each = readdir(threads)) {
    if (each->d_name[0] == '.') continue;
    char path[300], status[4096];
    snprintf(path, sizeof path, "/proc/self/task/%s/status", each->d_name);
    FILE *file = fopen(path, "re");
    /* The thread has ended. */
    if (file == NULL) continue;
    size_t length = fread(status, 1, sizeof status - 1, file);
    fclose(file);
    status[length] = '\0';
    if (length > 0 && !is_without_rights(status)) result = (failure){"give up the capabilities of every thread", EPERM};
  }
  closedir(threads);
  return result;
}

static failure confine(uid_t uid, gid_t gid) {
  if (geteuid() == 0) {
    if (uid == 0) return (failure){"become another user than root", EINVAL};
    if (setgroups(0, NULL) != 0) return failed("leave the groups");
    if (setresgid(gid, gid, gid) != 0) return failed("change the group");
    if (setresuid(uid, uid, uid) != 0) return failed("change the user");
  }
  /* Other processes of the user, which are agents too, neither read nor write its memory. */
  if (prctl(PR_SET_DUMPABLE, 0) != 0) return failed("close its memory to other processes");
  failure result = install_filter();
  return result.step == NULL ? assert_without_rights() : result;
}

/* closeMemory(): to other processes of the same user */
static napi_value close_memory(napi_env env, napi_callback_info info) {
  (void)info;
  return prctl(PR_SET_DUMPABLE, 0) == 0 ? NULL : throw_failure(env, failed("close its memory to other processes"));
}

/* confine(uid, gid): for ever. A process that is not root stays the user that it is. */
static napi_value confine_call(napi_env env, napi_callback_info info) {
  napi_value args[2];
  int32_t uid, gid;
  if (!read_arguments(env, info, 2, args) || !read_int(env, args[0], &uid) || !read_int(env, args[1], &gid)) return NULL;
  failure result = confine((uid_t)uid, (gid_t)gid);
  return result.step == NULL ? NULL : throw_failure(env, result);
}

void add_confinement(napi_env env, napi_value exports) {
  const napi_property_descriptor functions[] = {
      FUNCTION("confine", confine_call),
      FUNCTION("closeMemory", close_memory),
  };
  ADD_FUNCTIONS(env, exports, functions);
}
