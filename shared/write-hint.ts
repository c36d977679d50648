const hints: Readonly<Record<string, string>> = {
  ENOSPC: 'free space (df) and files (df -i) on the file system of the state directory',
  EDQUOT: 'raise the disk quota of the owner of the state directory, or free space',
  EACCES: 'run as the owner of the state directory, or give that user the right to write there',
  EPERM: 'run as the owner of the state directory, and see whether a file there is immutable (lsattr)',
  EROFS: 'mount the file system writable, or move the state with --state-dir',
  EIO: 'the disk fails: look at the log of the kernel (dmesg), and move the state with --state-dir',
  EMFILE: 'raise the limit of open files (LimitNOFILE= of the systemd unit, or ulimit -n)',
  ENFILE: 'raise the limit of open files of the whole host (sysctl fs.file-max)',
};

/** What a person can do about a write into the state directory that failed. */
export function hintForWrite(cause: unknown): string {
  const code = (cause as NodeJS.ErrnoException | undefined)?.code ?? '';
  return hints[code] ?? 'check the state directory: the path, its owner and its permissions';
}
