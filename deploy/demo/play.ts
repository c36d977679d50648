import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { CulvertError } from '../../shared/errors.js';
import { execInLab, statusOf } from '../../test/lab/held-lab.js';
import { type LabState, readLabStates } from '../../test/lab/lab-state.js';
import { programs } from '../../test/lab/programs.js';
import { testRunVariable } from '../../test/lab/test-processes.js';
import type { Stage } from './stage.js';

/** Commands to try while the demo keeps running. What stands between two remarks is a command each. */
export function renderPlayGuide(): string {
  const lines: readonly (readonly [string, ...string[]])[] = [
    ['a shell in an allowed client; try redis-cli -h cache ping, curl http://www/, culvert status', 'shell client'],
    ['an intruder', 'shell intruder redis-cli PING', 'shell intruder curl http://www/'],
    ['a session on the bastion', 'shell web ssh bastion'],
    ['the state of the mesh, and why a connection is refused', 'culvert status'],
    ['', 'culvert why guest/intruder shop/cache:6379'],
    ['let the intruder in', 'culvert delete SegmentationRule redis-deny-others'],
    ['metrics and live state of an agent, and its log', 'shell node1 curl http://localhost:15020/metrics'],
    ['', 'shell node1 curl http://localhost:15000/dump', 'log node1'],
    ['the firewall rules in a workload, and the wire between the hosts', 'shell web iptables-save'],
    ['', 'shell node2 tcpdump'],
  ];
  return lines
    .flatMap(([what, ...commands]) => [
      ...(what === '' ? [] : [`  # ${what}`]),
      ...commands.map((command) => `  npm run demo ${command.startsWith('culvert ') ? '-- ' : ''}${command}`),
    ])
    .join('\n');
}

/** Names of the story, for workloads of the topology. */
const roles: Readonly<Record<string, string>> = { client: 'web', server: 'cache' };

/** Commands of a shell in the lab that know the mesh: `culvert`, `ssh` with the key of the bastion, `redis-cli` of the cache. */
const commandsFile = 'play.sh';

/** Writes what the play commands need into the directory of the lab, with which it goes. */
export function writePlayFiles(stage: Stage): void {
  const { controller, lab } = stage.mesh;
  const [, ...login] = stage.ssh.clientArgv('', []).slice(0, -1);
  const context = `CULVERT_CONTEXT=${controller.contextFile}`;
  const culvert = ['ip', 'netns', 'exec', controller.node.netns, 'env', context, ...programs.culvert];
  const logs = stage.mesh.agents.map(({ name, logFile }) => `  ${name}) file=${quote(logFile)};;`);
  const text = [
    `culvert() { ${culvert.map(quote).join(' ')} "$@"; }`,
    `ssh() { command ssh ${login.map(quote).join(' ')} "$@"; }`,
    // Flags before the command of "npm run" are npm's own, so the address is a default here.
    `redis-cli() { command redis-cli -h ${stage.workload('cache').ipv4} "$@"; }`,
    `log() { case "$1" in\n${logs.join('\n')}\n  *) echo "no agent on $1" >&2; return 1;;\nesac; tail -n +1 -f "$file"; }`,
    `PS1="$CULVERT_DEMO_NODE # "`,
  ];
  writeFileSync(path.join(lab.tempDir, commandsFile), `${text.join('\n')}\n`, { mode: 0o600 });
}

/** `shell NODE [COMMAND…]`: a shell, or one command, in a host or workload of the running demo. Resolves to its exit code. */
export async function playInNode(name: string, command: readonly string[]): Promise<number> {
  requireOwnOptions(command);
  const lab = findDemo();
  const node = roles[name] ?? name;
  const file = path.join(lab.tempDir, commandsFile);
  const shell =
    command.length === 0 ? ['bash', '--rcfile', file, '-i'] : ['bash', '-c', '. "$0"; "$@"', file, ...command];
  return await execInLab(lab, node, ['env', `CULVERT_DEMO_NODE=${node}`, ...shell]);
}

/**
 * npm takes options of a command for its own unless `--` comes first, and a command without its --dry-run does what it was
 * asked not to do. Throws `DEMO_OPTIONS`.
 */
function requireOwnOptions(command: readonly string[]): void {
  const taken = Object.entries(optionsOfNpm).find(
    ([option, variable]) => process.env[variable] === 'true' && !command.includes(option),
  );
  if (taken === undefined) return;
  const message = `npm took ${taken[0]} for an option of its own, so the command would run without it`;
  const hint = `npm run demo -- ${command.join(' ')} ${taken[0]}`;
  throw new CulvertError({ code: 'DEMO_OPTIONS', message, hint });
}

/** Options that npm and `culvert` share, and how npm tells of them. */
const optionsOfNpm: Readonly<Record<string, string>> = {
  '--dry-run': 'npm_config_dry_run',
  '-f': 'npm_config_force',
  '--strict': 'npm_config_strict',
};

/** A command that knows the running demo and needs no place in it: `culvert …`, `log NODE`. Resolves to its exit code. */
export async function play(command: readonly string[]): Promise<number> {
  requireOwnOptions(command);
  const file = path.join(findDemo().tempDir, commandsFile);
  const child = spawn('bash', ['-c', '. "$0"; "$@"', file, ...command], { stdio: 'inherit' });
  const [code] = (await once(child, 'close')) as [number | null];
  return code ?? 1;
}

/** The newest demo that runs with --hold, outside of tests that run at the same time. */
function findDemo(): LabState {
  const isDemo = (state: LabState): boolean =>
    statusOf(state) === 'in use' &&
    state.testRun === (process.env[testRunVariable] ?? null) &&
    existsSync(path.join(state.tempDir, commandsFile));
  const found = readLabStates().filter(isDemo);
  const newest = found.sort((a, b) => a.createdAt.localeCompare(b.createdAt)).at(-1);
  if (newest !== undefined) return newest;
  const hint = 'in another terminal: npm run demo -- --hold';
  throw new CulvertError({ code: 'DEMO_NOT_RUNNING', message: 'No demo is running that waits for commands.', hint });
}

function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
