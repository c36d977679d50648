import { accessSync, constants, existsSync } from 'node:fs';
import path from 'node:path';
import { CulvertError } from '../../shared/errors.js';

/** A program that the lab, the demo or the tests start, and its Debian packages. */
export type Requirement = {
  readonly command: string;
  /** Debian packages that bring it. */
  readonly packages: readonly string[];
  readonly why: string;
  /** A file that must also exist. */
  readonly file?: string;
};

export const requirements: readonly Requirement[] = [
  { command: 'ip', packages: ['iproute2'], why: 'hosts and workloads are network namespaces' },
  { command: 'ss', packages: ['iproute2'], why: 'tests list the listening sockets of a namespace' },
  { command: 'nsenter', packages: ['util-linux'], why: 'rules are loaded inside a namespace' },
  { command: 'unshare', packages: ['util-linux'], why: 'programs run without a network or without services' },
  { command: 'setsid', packages: ['util-linux'], why: 'a test starts a daemon that leaves its process group' },
  { command: 'prlimit', packages: ['util-linux'], why: 'a test runs out of file descriptors on purpose' },
  { command: 'sysctl', packages: ['procps'], why: 'a namespace gets network settings of its own' },
  { command: 'bash', packages: ['bash'], why: 'marker packets of a capture' },
  { command: 'iptables', packages: ['iptables'], why: 'the agent captures TCP with it' },
  { command: 'ip6tables', packages: ['iptables'], why: 'the agent captures TCP over IPv6 with it' },
  { command: 'nft', packages: ['nftables'], why: 'what iptables left in the kernel is read and damaged with it' },
  { command: 'tcpdump', packages: ['tcpdump'], why: 'what is on the wire is captured, not asserted' },
  { command: 'nats-server', packages: ['nats-server'], why: 'the controller stores and distributes with it' },
  { command: 'redis-server', packages: ['redis-server'], why: 'an application behind the mesh' },
  { command: 'redis-cli', packages: ['redis-tools'], why: 'its client' },
  { command: 'nginx', packages: ['nginx'], why: 'an application behind the mesh' },
  { command: 'sshd', packages: ['openssh-server'], why: 'an application whose server speaks first' },
  { command: 'ssh', packages: ['openssh-client'], why: 'its client' },
  { command: 'ssh-keygen', packages: ['openssh-client'], why: 'its keys' },
  { command: 'curl', packages: ['curl'], why: 'an HTTP client' },
  { command: 'socat', packages: ['socat'], why: 'a TCP client that reads and writes as it is told' },
  { command: 'fish', packages: ['fish'], why: 'the completion for it is tried' },
  { command: 'zsh', packages: ['zsh'], why: 'the completion for it is tried' },
  { command: 'perl', packages: ['perl-base'], why: 'reads socket options that Node does not know' },
  { command: 'openssl', packages: ['openssl'], why: 'judges certificates and keys that we issued' },
  { command: 'nghttp', packages: ['nghttp2-client'], why: 'an HTTP/2 client that we did not write' },
  { command: 'h2load', packages: ['nghttp2-client'], why: 'many of its streams at once' },
  {
    command: 'gcc',
    packages: ['gcc', 'libc6-dev'],
    why: 'builds the native addon',
    file: '/usr/include/stdio.h',
  },
];

/**
 * The PATH for everything that this process starts. The PATH of `su` and of many containers lacks the sbin directories.
 */
const systemDirectories = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

/** The missing programs among the named commands. Default: the whole table. */
export function missingRequirements(commands?: readonly string[]): Requirement[] {
  const wanted = requirements.filter(({ command }) => commands === undefined || commands.includes(command));
  return wanted.filter(isMissing);
}

export function isMissing({ command, file }: Requirement): boolean {
  return findCommand(command) === null || (file !== undefined && !existsSync(file));
}

/** The absolute path of a program, or null. A command with a slash is already a path. */
export function findCommand(command: string): string | null {
  if (command.includes('/')) return isExecutable(command) ? command : null;
  completePath();
  const directories = (process.env['PATH'] ?? '').split(':').filter((directory) => directory !== '');
  return directories.map((directory) => path.join(directory, command)).find(isExecutable) ?? null;
}

/** Throws `REQUIREMENT_MISSING`, which says what to install, unless this is root and the commands are installed. */
export function requireCommands(commands: readonly string[]): void {
  if (process.getuid?.() !== 0) {
    const message = 'Network namespaces can only be made by root.';
    throw new CulvertError({ code: 'REQUIREMENT_MISSING', message, hint: 'run it as root, for example with sudo' });
  }
  const missing = missingRequirements(commands);
  if (missing.length > 0) throw missingError(missing);
}

/**
 * Throws `REQUIREMENT_MISSING` with the program's name unless it is installed. Programs that start another one (`ip netns
 * exec`, `nsenter`) report a missing program only with an exit code, which a test may mistake for the other's result.
 */
export function requireProgram(command: string): void {
  if (findCommand(command) !== null) return;
  const declared = requirements.find((requirement) => requirement.command === command);
  if (declared !== undefined) throw missingError([declared]);
  const message = `Missing: ${command}, which no table of requirements names.`;
  const hint = 'declare the program and its Debian package in test/lab/requirements.ts';
  throw new CulvertError({ code: 'REQUIREMENT_MISSING', message, hint });
}

/** One line that says what is missing, why it is needed and how to get it. */
export function missingError(missing: readonly Requirement[]): CulvertError {
  const what = missing.map(({ command, why }) => `${command} (${why})`).join(', ');
  const hint = `apt-get install -y --no-install-recommends ${packagesOf(missing).join(' ')}`;
  return new CulvertError({ code: 'REQUIREMENT_MISSING', message: `Missing: ${what}.`, hint });
}

export function packagesOf(missing: readonly Requirement[]): string[] {
  return [...new Set(missing.flatMap(({ packages }) => packages))];
}

function completePath(): void {
  const present = (process.env['PATH'] ?? '').split(':').filter((directory) => directory !== '');
  const absent = systemDirectories.filter((directory) => !present.includes(directory));
  if (absent.length > 0) process.env['PATH'] = [...present, ...absent].join(':');
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
