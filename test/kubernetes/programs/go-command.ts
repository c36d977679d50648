import { spawn } from 'node:child_process';
import { constants, setPriority } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { readFileSync } from 'node:fs';
import { CulvertError } from '../../../shared/errors.js';
import { runCommand } from '../../lab/command.js';
import { findCommand } from '../../lab/requirements.js';
import type { Component } from './components.js';
import type { ProgramCache } from './program-cache.js';

/** How many of the last lines of a failed build are shown. */
const shownLines = 25;

/**
 * Go's settings are the user's (`GOPROXY`, `GOFLAGS`, `GONOSUMDB`, `GOTOOLCHAIN`, …), but for its caches: unless the user
 * names others, they are in our cache folder and go when they are no longer needed. A workspace around the clone does not count.
 */
export function goEnvironment(cache: ProgramCache): Record<string, string> {
  const { GOCACHE: built, GOMODCACHE: modules } = process.env;
  return {
    GOWORK: 'off',
    CGO_ENABLED: '0',
    ...(built === undefined ? { GOCACHE: path.join(cache.goDirectory, 'built') } : {}),
    ...(modules === undefined ? { GOMODCACHE: path.join(cache.goDirectory, 'modules') } : {}),
  };
}

/**
 * Throws `GO_MISSING` or `GO_TOO_OLD`, which say what to do, unless Go can build the components. Go 1.21 and newer fetch
 * the version that a `go.mod` names by themselves, where GOTOOLCHAIN allows it.
 */
export async function requireGo(
  components: readonly Component[],
  env: Readonly<Record<string, string>>,
): Promise<void> {
  // Another process may have built what was missing.
  if (components.length === 0) return;
  const wanted = newestOf(components.map(goVersionOf));
  const hint =
    `install Go ${wanted} as https://go.dev/doc/install says, or an older one from 1.21 on, which GOTOOLCHAIN=auto lets ` +
    'fetch it; only the first run needs Go';
  if (findCommand('go') === null) {
    const message = `Kubernetes is built with Go ${wanted} or newer, and there is no "go" in the PATH.`;
    throw new CulvertError({ code: 'GO_MISSING', message, hint });
  }
  for (const { directory } of components) {
    // A download of Go itself may take its time.
    const { code, stdout, stderr } = await runCommand(['go', 'env', 'GOVERSION'], {
      cwd: directory,
      env,
      timeoutMs: 300_000,
    });
    const found = stdout.trim().replace(/^go/, '');
    if (code === 0 && newestOf([found, goVersionOf({ directory })]) === found) continue;
    const why = code === 0 ? `this is Go ${found}` : (stderr.trim().split('\n').at(-1) ?? '');
    const message = `Kubernetes is built with Go ${wanted} or newer: ${why}.`;
    throw new CulvertError({ code: 'GO_TOO_OLD', message, hint });
  }
}

/**
 * Throws `GO_NETWORK`, which says what to do, unless Go can have the module of a component: from its own cache, or from a
 * proxy. The others come from the same place, and a build that fails for it later has taken minutes.
 */
export async function requireModules(
  component: Component,
  env: Readonly<Record<string, string>>,
  directory: string,
): Promise<void> {
  const { directory: cwd, module = '' } = component;
  const { code, stderr } = await runCommand(['go', 'mod', 'download', module], { cwd, env, timeoutMs: 300_000 });
  if (code === 0) return;
  const why = stderr.trim().split('\n').at(-1) ?? '';
  throw new CulvertError({
    code: 'GO_NETWORK',
    message: `The modules of Kubernetes cannot be downloaded, which only the first run needs: ${why}.`,
    hint: `let Go reach its module proxy (GOPROXY), or bring ${directory} from a machine that has built it`,
  });
}

function goVersionOf({ directory }: Pick<Component, 'directory'>): string {
  return /^go (\S+)/m.exec(readFileSync(path.join(directory, 'go.mod'), 'utf8'))?.[1] ?? '1.26';
}

function newestOf(versions: readonly string[]): string {
  return versions.reduce((newest, each) => (isOlder(newest, each) ? each : newest));
}

function isOlder(a: string, b: string): boolean {
  const [left, right] = [a, b].map((text) => text.split(/[^0-9]+/).map(Number));
  for (const at of [0, 1, 2]) {
    const difference = (left?.[at] ?? 0) - (right?.[at] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return false;
}

export type GoBuild = {
  readonly argv: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  /** Called now and then with what Go does. */
  readonly progress: (text: string) => void;
};

/** Runs `go build -v …` with what the rest of the machine leaves idle. Throws `GO_BUILD`, with the end of what Go wrote. */
export async function goBuild({ argv, cwd, env, progress }: GoBuild): Promise<void> {
  const child = spawn('go', ['build', '-v', ...argv], {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  if (child.pid !== undefined) setPriority(child.pid, constants.priority.PRIORITY_LOW);
  const lines: string[] = [];
  const counts = { downloaded: 0, compiled: 0 };
  createInterface({ input: child.stderr }).on('line', (line) => {
    lines.push(line);
    if (lines.length > shownLines) lines.shift();
    if (line.startsWith('go: downloading')) counts.downloaded++;
    else counts.compiled++;
  });
  const report = setInterval(() => {
    progress(`${counts.downloaded} modules downloaded, ${counts.compiled} packages compiled`);
  }, 30_000);
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    if (code === 0) return;
    const message = `"go build" in ${cwd} ended with code ${code}:\n${lines.join('\n')}`;
    throw new CulvertError({ code: 'GO_BUILD', message });
  } finally {
    clearInterval(report);
  }
}
