import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const pluginFile = fileURLToPath(new URL('./culvert-cni', import.meta.url));
const installerFile = fileURLToPath(new URL('./culvert-cni-install', import.meta.url));
/** It does its work in milliseconds. One that hangs is waited for no longer. */
const removeTimeoutMs = 10_000;

/** Directories of the host, or where they are mounted: `/etc/cni/net.d` and `/opt/cni/bin`. */
export type CniDirectories = { readonly configDirectory: string; readonly binDirectory: string };

/** What the plugin gets in its configuration; paths are those of the host. */
export type CniEntry = { readonly socket: string; readonly enrolled: string; readonly ownNamespace: string };

type Said = { readonly installed: string } | { readonly problem: string } | { readonly removed: string };

/**
 * The program that keeps the CNI plugin in the chain of this node (agent/native/cni-install/). Start it while this process is
 * root: it goes on as root when the agent no longer is, and ends with it. The plugin stays in the chain then.
 */
export class CniInstaller {
  readonly #child: ChildProcess;
  readonly #onChange: ((said: Said) => void)[] = [];
  #said: Said = { problem: 'it is not installed yet' };
  #hasEnded = false;

  constructor({ configDirectory, binDirectory, entry }: CniDirectories & { readonly entry: CniEntry }) {
    const { socket, enrolled, ownNamespace } = entry;
    const text = JSON.stringify({ type: 'culvert-cni', socket, enrolled, ownNamespace });
    const args = ['keep', configDirectory, binDirectory, pluginFile, text];
    this.#child = spawn(installerFile, args, { stdio: ['pipe', 'pipe', 'inherit'], env: {} });
    this.#child.on('error', (error) => this.#tell({ problem: error.message }));
    this.#child.once('close', (code, signal) => {
      this.#hasEnded = true;
      if (!('removed' in this.#said)) this.#tell({ problem: `the installer ended (${signal ?? code})` });
    });
    this.#child.stdin?.on('error', () => undefined);
    if (this.#child.stdout !== null) {
      createInterface({ input: this.#child.stdout }).on('line', (line) => this.#tell(JSON.parse(line) as Said));
    }
    this.#child.unref();
  }

  /** Why pods may start without the plugin; null: it is in the chain. */
  get problem(): string | null {
    return 'problem' in this.#said ? this.#said.problem : null;
  }

  /** Calls back with each change. */
  onChange(callback: (said: Said) => void): void {
    this.#onChange.push(callback);
  }

  /** Puts the plugin into the chain, and keeps it there. Call it when the agent can answer. */
  install(): void {
    this.#child.stdin?.write('install\n');
  }

  /** Takes the plugin out of the chain. Resolves with what is left; null: nothing. Never rejects. */
  async remove(): Promise<string | null> {
    if (!this.#hasEnded) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, removeTimeoutMs);
        this.#child.once('close', () => {
          clearTimeout(timer);
          resolve();
        });
        this.#child.stdin?.end('remove\n');
      });
    }
    return 'removed' in this.#said ? null : (this.problem ?? 'the installer does not answer');
  }

  /** It ends; the plugin stays in the chain. */
  close(): void {
    this.#child.stdin?.end();
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
