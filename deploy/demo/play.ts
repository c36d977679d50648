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
    ['a first rule: only web may reach the bastion', 'culvert apply -f deploy/demo/rules/bastion.yaml'],
    ['', 'shell intruder ssh bastion'],
    ['metrics and state of an agent, and its log', 'shell node1 curl http://localhost:15020/metrics'],
    ['', 'shell node1 curl http://localhost:15021/readyz', 'log node1'],
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
    // A session that is cut before it began ends with 255, most often without a word.
    `ssh() { command ssh ${login.map(quote).join(' ')} "$@" || { local code=$?; [ $code != 255 ] || echo "ssh: the connection was closed" >&2; return $code; }; }`,
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

/** Names the demo that commands are for, by its prefix, when several are held. */
const demoVariable = 'CULVERT_DEMO';

/** The demos that run with --hold, outside of tests that run at the same time; the oldest first. */
function heldDemos(): LabState[] {
  return readLabStates()
    .filter(
      (state) =>
        statusOf(state) === 'in use' &&
        state.testRun === (process.env[testRunVariable] ?? null) &&
        existsSync(path.join(state.tempDir, commandsFile)),
    )
    .sort((a, b) => a.createdAt.localeCompare(b.createdAt));
}

/** What to know before another demo is held: where its commands go, and how to reach the others. Null: it is the only one. */
export function renderOtherDemos(): string | null {
  const prefixes = heldDemos().map(({ prefix }) => prefix);
  if (prefixes.length === 0) return null;
  const [one, run] = [prefixes.length === 1, `${demoVariable}=${prefixes[0]} npm run demo …`];
  return `Note: ${prefixes.join(', ')} ${one ? 'is' : 'are'} held already. Commands go to the newest demo, this one; for another: ${run}`;
}

/**
 * The demo that {@link demoVariable} names, else the newest; says so when there are several. Throws `DEMO_NOT_RUNNING` and
 * `DEMO_NAME`.
 */
function findDemo(): LabState {
  const held = heldDemos();
  const newest = held.at(-1);
  if (newest === undefined) {
    const hint = 'in another terminal: npm run demo -- --hold';
    throw new CulvertError({ code: 'DEMO_NOT_RUNNING', message: 'No demo is running that waits for commands.', hint });
  }
  const prefixes = held.map(({ prefix }) => prefix).join(', ');
  const wanted = process.env[demoVariable];
  if (wanted !== undefined) {
    const named = held.find(({ prefix }) => prefix === wanted);
    if (named !== undefined) return named;
    const message = `No demo "${wanted}" is held.`;
    throw new CulvertError({ code: 'DEMO_NAME', message, hint: `${demoVariable} is one of ${prefixes}` });
  }
  if (held.length > 1) {
    process.stderr.write(`note: of the held demos ${prefixes}, this is ${newest.prefix}; ${demoVariable} chooses\n`);
  }
  return newest;
}

function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
