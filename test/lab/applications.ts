import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Lab } from './lab.js';
import type { LabNode } from './lab-node.js';
import type { LabProcess } from './lab-process.js';
import { findCommand, requireCommands } from './requirements.js';

/** An unmodified server inside a workload, which listens on IPv4 and IPv6. The teardown of the lab stops it. */
export type Application = AsyncDisposable & {
  readonly process: LabProcess;
  readonly port: number;
  /** Its own directory for configuration, data and logs. */
  readonly directory: string;
  stop(): Promise<void>;
};

export type ApplicationOptions = { readonly lab: Lab; readonly at: LabNode; readonly port?: number };

/** redis-server on port 6379 without persistence. Throws `REQUIREMENT_MISSING` and `LAB_PROCESS_ENDED`. */
export async function startRedis(options: ApplicationOptions): Promise<Application> {
  requireCommands(['redis-server']);
  const { port = 6379 } = options;
  const directory = makeDirectory(options, 'redis');
  const flags = { port, bind: '* -::*', dir: directory, save: '', daemonize: 'no', 'protected-mode': 'no' };
  const argv = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, ...redisValues(name, value)]);
  const process = await options.at.spawn(['redis-server', ...argv], logIn(directory));
  return ready({ process, port, directory }, /Ready to accept connections/);
}

/** nginx on port 80 with one file, `/`, of the given text. Throws `REQUIREMENT_MISSING` and `LAB_PROCESS_ENDED`. */
export async function startNginx(options: ApplicationOptions & { readonly page?: string }): Promise<Application> {
  requireCommands(['nginx']);
  const { port = 80 } = options;
  const directory = makeDirectory(options, 'nginx');
  mkdirSync(path.join(directory, 'www'));
  writeFileSync(path.join(directory, 'www', 'index.html'), options.page ?? 'served by nginx\n');
  const configuration = path.join(directory, 'nginx.conf');
  writeFileSync(configuration, nginxConfiguration(directory, port));
  const process = await options.at.spawn(
    ['nginx', '-e', 'stderr', '-p', directory, '-c', configuration],
    logIn(directory),
  );
  // The master opens its listeners before it starts workers.
  return ready({ process, port, directory }, /start worker process /);
}

export type SshApplication = Application & {
  /** The argument vector that runs a command on it as root, from any node: `ssh …options host command`. */
  clientArgv(host: string, command: readonly string[]): string[];
};

/** sshd on port 22 with its own keys. Throws `REQUIREMENT_MISSING`, `COMMAND_FAILED` and `LAB_PROCESS_ENDED`. */
export async function startSshd(options: ApplicationOptions): Promise<SshApplication> {
  requireCommands(['sshd', 'ssh', 'ssh-keygen']);
  const { port = 22 } = options;
  const directory = makeDirectory(options, 'sshd');
  const [hostKey, clientKey] = [path.join(directory, 'host-key'), path.join(directory, 'client-key')];
  for (const file of [hostKey, clientKey]) {
    await options.at.check(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', 'culvert-lab', '-f', file]);
  }
  const configuration = path.join(directory, 'sshd_config');
  writeFileSync(configuration, sshdConfiguration(hostKey, `${clientKey}.pub`, port));
  // sshd requires /run/sshd and an absolute path to itself. The mount namespace is private to this command.
  const script = 'mount -t tmpfs tmpfs /run && mkdir -m 0755 /run/sshd && exec "$0" -D -e -f "$1"';
  const program = findCommand('sshd') ?? 'sshd';
  const process = await options.at.spawn(['sh', '-e', '-c', script, program, configuration], logIn(directory));
  const application = await ready({ process, port, directory }, /Server listening on :: port /);
  const trust = ['-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR'];
  const login = ['-i', clientKey, '-p', String(port), '-o', 'BatchMode=yes', '-F', 'none', ...trust, '-l', 'root'];
  return { ...application, clientArgv: (host, command) => ['ssh', ...login, host, ...command] };
}

type Started = { readonly process: LabProcess; readonly port: number; readonly directory: string };

async function ready(started: Started, line: RegExp): Promise<Application> {
  const stop = async (): Promise<void> => {
    await started.process.stop();
  };
  try {
    await started.process.waitForLine(line);
  } catch (error) {
    await stop();
    throw error;
  }
  return { ...started, stop, [Symbol.asyncDispose]: stop };
}

function makeDirectory(options: ApplicationOptions, name: string): string {
  return mkdtempSync(path.join(options.lab.tempDir, `${options.at.name}-${name}-`));
}

function logIn(directory: string): { logFile: string } {
  return { logFile: path.join(directory, 'output.log') };
}

/** `bind` takes each address as a separate argument. */
function redisValues(name: string, value: string | number): string[] {
  return name === 'bind' ? String(value).split(' ') : [String(value)];
}

function nginxConfiguration(directory: string, port: number): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  return `
daemon off;
user root;
worker_processes 1;
pid ${directory}/nginx.pid;
error_log stderr notice;
events { worker_connections 4096; }
http {
  access_log ${directory}/access.log;
${temporary.map((name) => `  ${name}_temp_path ${directory}/${name};`).join('\n')}
  server {
    listen ${port};
    listen [::]:${port};
    root ${directory}/www;
  }
}
`;
}

function sshdConfiguration(hostKey: string, authorizedKeys: string, port: number): string {
  return `
Port ${port}
AddressFamily any
HostKey ${hostKey}
AuthorizedKeysFile ${authorizedKeys}
PidFile none
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
UseDNS no
MaxStartups 1000
`;
}
