import { spawn, type ChildProcess } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { describeError } from '../shared/errors.js';
import type { Log } from '../shared/log.js';
import { removeEverything } from './capture/remove-everything.js';
import { StateDirectory } from './control/state/state-directory.js';

/**
 * The child reports that it serves the workloads that it served before; the supervisor asks it to check its capture.
 */
export type FromSupervised = { readonly type: 'serving' };
export type ToSupervised = { readonly type: 'recheck-capture' };

const firstRestartMs = 50;
const maxRestartMs = 10_000;
/** A child that ran this long counts as healthy: the next restart is fast again. */
const settledAfterMs = 60_000;
/** With fail mode open: how long workloads wait for an agent that died before their traffic passes without it. */
const openAfterMs = 1000;
/** The same for this supervisor's first agent: a normal start, for example after an upgrade, must not open the mesh. */
const openAfterStartMs = 10_000;

/**
 * Keeps one agent running. A child that exits on its own is restarted with growing delays. With fail mode `closed` the
 * capture rules stay, so new connections are refused meanwhile. With `open` the rules are removed unless the child
 * serves again within a second (the first child within ten), and the child loads them again when it does.
 */
export class Supervisor {
  readonly #argv: readonly [program: string, ...args: string[]];
  readonly #failMode: 'closed' | 'open';
  readonly #log: Log;
  readonly #opener: FailOpener;
  readonly #stopping = new AbortController();
  #child: ChildProcess | null = null;

  constructor(init: {
    /** Program and arguments of the agent. */
    readonly argv: readonly [program: string, ...args: string[]];
    readonly failMode: 'closed' | 'open';
    readonly stateDir: string;
    readonly log: Log;
  }) {
    this.#argv = init.argv;
    this.#failMode = init.failMode;
    this.#log = init.log;
    this.#opener = new FailOpener({ stateDir: init.stateDir, log: init.log });
  }

  /** Forwards a signal to the child, each time it is called, and prevents further restarts. */
  stop(signal: NodeJS.Signals): void {
    this.#stopping.abort();
    this.#child?.kill(signal);
  }

  /** Resolves with the exit code of the last child after {@link stop}. Call it once. */
  async run(): Promise<number> {
    let failures = 0;
    let exit: Exit = { code: 0, signal: null };
    // What an earlier run captured is refused until this child serves, whether the child dies or only waits.
    if (this.#failMode === 'open') this.#opener.expectChild(openAfterStartMs);
    while (!this.#stopping.signal.aborted) {
      const startedAtMs = Date.now();
      exit = await this.#runChild();
      if (this.#stopping.signal.aborted) break;
      if (this.#failMode === 'open') this.#opener.expectChild(openAfterMs);
      failures = Date.now() - startedAtMs > settledAfterMs ? 1 : failures + 1;
      const restartInMs = Math.min(maxRestartMs, firstRestartMs * 2 ** (failures - 1));
      this.#log.error({ ...exit, restartInMs, failMode: this.#failMode }, 'the agent exited; restarting it');
      await delay(restartInMs, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
    }
    await this.#opener.close();
    return exit.code ?? 1;
  }

  /** In its own process group, so that Ctrl-C reaches the child once, through us. Twice would mean "stop at once". */
  #runChild(): Promise<Exit> {
    const [program, ...args] = this.#argv;
    const child = spawn(program, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], detached: true });
    this.#child = child;
    child.on('message', (message: FromSupervised) => {
      if (message.type === 'serving') this.#opener.childServes(child);
    });
    return new Promise((resolve) => {
      child.once('exit', (code, signal) => resolve({ code, signal }));
      child.on('error', (error) => {
        this.#log.error({ err: error }, 'the agent could not be started or signalled');
        if (child.pid === undefined) resolve({ code: 127, signal: null });
      });
    });
  }
}

type Exit = { readonly code: number | null; readonly signal: NodeJS.Signals | null };

/** Removes the capture from every namespace in the ledger when the agent stays away. */
class FailOpener {
  readonly #stateDir: string;
  readonly #log: Log;
  #timer: NodeJS.Timeout | null = null;
  #dueAtMs = 0;
  #removal: Promise<void> | null = null;
  /** Since a child last served. */
  #hasOpened = false;

  constructor(init: { readonly stateDir: string; readonly log: Log }) {
    this.#stateDir = init.stateDir;
    this.#log = init.log;
  }

  /** Opens unless a child serves within this time, or within the time of an earlier call if that ends sooner. */
  expectChild(timeoutMs: number): void {
    const dueAtMs = Date.now() + timeoutMs;
    if (this.#timer !== null && this.#dueAtMs <= dueAtMs) return;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#dueAtMs = dueAtMs;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#hasOpened = true;
      this.#removal ??= this.#open().finally(() => (this.#removal = null));
    }, timeoutMs);
  }

  /** In time: nothing is removed. Too late: the child must reload what the removal took from it while it started. */
  childServes(child: ChildProcess): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (!this.#hasOpened) return;
    this.#hasOpened = false;
    const recheck: ToSupervised = { type: 'recheck-capture' };
    void (this.#removal ?? Promise.resolve()).then(() => {
      if (child.connected) child.send(recheck, () => undefined);
    });
  }

  async close(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#removal;
  }

  async #open(): Promise<void> {
    try {
      const directory = new StateDirectory({ path: this.#stateDir });
      const { namespaces } = await directory.readCaptured(this.#log);
      if (namespaces.length === 0) return;
      const removed = await removeEverything({ netnsPaths: namespaces.map((namespace) => namespace.netnsPath) });
      const problems = removed.filter(({ problem }) => problem !== null);
      this.#log.error(
        { namespaces: namespaces.map((namespace) => namespace.workload), problems },
        'FAIL OPEN: the agent is down, so the traffic of its workloads now passes unprotected',
      );
    } catch (error) {
      this.#log.error({ problem: describeError(error) }, 'the capture could not be removed: traffic stays refused');
    }
  }
}
