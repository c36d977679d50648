import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import process from 'node:process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const pluginFile = fileURLToPath(new URL('./culvert-cni', import.meta.url));
const installerFile = fileURLToPath(new URL('./culvert-cni-install', import.meta.url));
/** It does its work in milliseconds. One that hangs is waited for no longer. */
const removeTimeoutMs = 10_000;
/** Before it is started again, twice as long each time. */
const firstRestartMs = 1000;
const longestRestartMs = 60_000;

/** Directories of the host, or where they are mounted: `/etc/cni/net.d` and `/opt/cni/bin`. */
export type CniDirectories = { readonly configDirectory: string; readonly binDirectory: string };

/** What the plugin gets in its configuration; paths are those of the host. */
export type CniEntry = { readonly socket: string; readonly enrolled: string; readonly ownNamespace: string };

type Said = { readonly installed: string } | { readonly problem: string } | { readonly removed: string };

/**
 * The program that keeps the CNI plugin in the chain of this node (agent/native/cni-install/). Make it while this process is
 * root: it goes on as root when the agent no longer is, and ends with it. The plugin stays in the chain then. One that dies is
 * started again, which only root can.
 */
export class CniInstaller {
  readonly #directories: CniDirectories;
  readonly #entry: string;
  readonly #onChange: ((said: Said) => void)[] = [];
  readonly #firstRestartMs: number;
  #child: ChildProcess;
  #said: Said = { problem: 'it is not installed yet' };
  #isWanted = false;
  #isClosed = false;
  #hasEnded = false;
  #startedAtMs = 0;
  #restartMs: number;

  constructor(init: CniDirectories & { readonly entry: CniEntry; readonly firstRestartMs?: number }) {
    const { socket, enrolled, ownNamespace } = init.entry;
    this.#directories = init;
    this.#entry = JSON.stringify({ type: 'culvert-cni', socket, enrolled, ownNamespace });
    this.#firstRestartMs = init.firstRestartMs ?? firstRestartMs;
    this.#restartMs = this.#firstRestartMs;
    this.#child = this.#start();
  }

  /** Why pods may start without the plugin; null: it is in the chain. */
  get problem(): string | null {
    return 'problem' in this.#said ? this.#said.problem : null;
  }

  /** Of the program that runs, or ran last. */
  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Calls back with each change. */
  onChange(callback: (said: Said) => void): void {
    this.#onChange.push(callback);
  }

  /** Puts the plugin into the chain, and keeps it there. Call it when the agent can answer. */
  install(): void {
    this.#isWanted = true;
    this.#child.stdin?.write('install\n');
  }

  /** Takes the plugin out of the chain. Resolves with what is left; null: nothing. Never rejects. */
  async remove(): Promise<string | null> {
    this.#isClosed = true;
    if (this.#hasEnded) return takeOutCniPlugin(this.#directories);
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, removeTimeoutMs);
      this.#child.once('close', () => {
        clearTimeout(timer);
        resolve();
      });
      this.#child.stdin?.end('remove\n');
    });
    return 'removed' in this.#said ? null : (this.problem ?? 'the installer does not answer');
  }

  /** It ends; the plugin stays in the chain. */
  close(): void {
    this.#isClosed = true;
    this.#child.stdin?.end();
  }

  #start(): ChildProcess {
    const { configDirectory, binDirectory } = this.#directories;
    const args = ['keep', configDirectory, binDirectory, pluginFile, this.#entry];
    const child = spawn(installerFile, args, { stdio: ['pipe', 'pipe', 'inherit'], env: {} });
    this.#hasEnded = false;
    this.#startedAtMs = performance.now();
    child.on('error', (error) => this.#tell({ problem: error.message }));
    child.once('close', (code, signal) => this.#onEnded(String(signal ?? code)));
    child.stdin?.on('error', () => undefined);
    if (child.stdout !== null) {
      createInterface({ input: child.stdout }).on('line', (line) => this.#tell(JSON.parse(line) as Said));
    }
    child.unref();
    return child;
  }

  #onEnded(how: string): void {
    this.#hasEnded = true;
    if ('removed' in this.#said) return;
    const isRoot = process.geteuid?.() === 0;
    const then =
      isRoot || this.#isClosed
        ? ''
        : '; what another program does to the chain is not seen before the agent starts again';
    this.#tell({ problem: `the installer ended (${how})${then}` });
    if (!isRoot) return;
    if (performance.now() - this.#startedAtMs > longestRestartMs) this.#restartMs = this.#firstRestartMs;
    setTimeout(() => this.#startAgain(), this.#restartMs).unref();
    this.#restartMs = Math.min(longestRestartMs, this.#restartMs * 2);
  }

  #startAgain(): void {
    if (this.#isClosed) return;
    this.#child = this.#start();
    if (this.#isWanted) this.install();
  }

  #tell(said: Said): void {
    this.#said = said;
    for (const each of this.#onChange) each(said);
  }
}

/** For `culvert-agent remove`: without an agent. Returns what is left; null: nothing. */
export function takeOutCniPlugin({ configDirectory, binDirectory }: CniDirectories): string | null {
  const { status, stdout, error } = spawnSync(installerFile, ['remove', configDirectory, binDirectory], {
    encoding: 'utf8',
    timeout: removeTimeoutMs,
    env: {},
  });
  if (status === 0) return null;
  if (error !== undefined) return error.message;
  const [line = ''] = stdout.split('\n');
  return line === '' ? `the installer ended with ${status}` : (JSON.parse(line) as { problem: string }).problem;
}
