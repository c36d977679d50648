const hints: Readonly<Record<string, string>> = {
  ENOSPC: 'free space (df) and files (df -i) on the file system of the state directory',
  EDQUOT: 'raise the disk quota of the owner of the state directory, or free space',
  EACCES: 'run as the owner of the state directory, or give this user permission to write there',
  EPERM: 'run as the owner of the state directory, and check whether a file there is immutable (lsattr)',
  EROFS: 'mount the file system writable, or move the state with --state-dir',
  EIO: 'the disk is failing: check the kernel log (dmesg), and move the state with --state-dir',
  EMFILE: 'raise the limit of open files (LimitNOFILE= of the systemd unit, or ulimit -n)',
  ENFILE: 'raise the limit of open files of the whole host (sysctl fs.file-max)',
};

/** What the user can do about a failed write to the state directory. */
export function hintForWrite(cause: unknown): string {
  const code = (cause as NodeJS.ErrnoException | undefined)?.code ?? '';
  return hints[code] ?? 'check the state directory: the path, its owner and its permissions';
}
