import { spawn, type ChildProcess } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { assertNever } from '../shared/assert-never.js';
import type { Log } from '../shared/log.js';
import type { KeptSockets } from './control/succession/kept-sockets.js';
import type { FailOpener } from './fail-opener.js';
import { inheritedCount, sharesRules, type FromSupervised, type ToSupervised } from './supervised.js';

const firstRestartMs = 50;
const maxRestartMs = 10_000;
/** A child that ran this long counts as healthy: the next restart is fast again. */
const settledAfterMs = 60_000;
/** With fail mode open: how long workloads wait for an agent that died before their traffic passes without it. */
const openAfterMs = 1000;
/** The same for this supervisor's first agent: a normal start, for example after an upgrade, must not open the mesh. */
const openAfterStartMs = 10_000;

type Exit = { readonly code: number | null; readonly signal: NodeJS.Signals | null };

type Child = {
  readonly process: ChildProcess;
  readonly startedAtMs: number;
  readonly exited: Promise<Exit>;
  /** It left this host to another agent, and only lets its open connections end. */
  readonly succeeded: Promise<void>;
  readonly succeed: () => void;
  isSucceeded: boolean;
  hasServed: boolean;
  /** It was started with the sockets that this supervisor keeps. */
  readonly hasKept: boolean;
};

/**
 * Keeps one agent running. A child that exits on its own is restarted with growing delays, on the listening sockets of
 * the one before. With fail mode `closed` the capture rules stay, so new connections wait for the next child, and are
 * refused if that does not come to serve. With `open` the rules are removed unless the child serves again within a second
 * (the first child within ten), but for those of namespaces that it has loaded again by then (`fail-opener.ts`).
 *
 * {@link replace} starts the program that is on disk now next to the running agent, which lets go when the new one
 * serves.
 */
export class Supervisor {
  readonly #argv: readonly [program: string, ...args: string[]];
  readonly #log: Log;
  /** Null: fail mode `closed`. */
  readonly #opener: FailOpener | null;
  readonly #kept: KeptSockets;
  readonly #stopping = new AbortController();
  /** All that run: the one that serves, one that is to take over from it, and those that only drain. */
  readonly #children = new Set<Child>();
  #successor: Child | null = null;
  /** A successor of the child that serves was started, whatever became of it. */
  #hasTriedToReplace = false;

  constructor(init: {
    /** Program and arguments of the agent. */
    readonly argv: readonly [program: string, ...args: string[]];
    /** For fail mode `open`; becomes this object's. */
    readonly opener: FailOpener | null;
    /** Becomes this object's. */
    readonly kept: KeptSockets;
    readonly log: Log;
  }) {
    this.#argv = init.argv;
    this.#log = init.log;
    this.#kept = init.kept;
    this.#opener = init.opener;
  }

  /** Forwards a signal to every child, each time it is called, and prevents further restarts. */
  stop(signal: NodeJS.Signals): void {
    this.#stopping.abort();
    this.#kept.close();
    // One that was asked to stop does not fail, however long it takes.
    void this.#opener?.close();
    for (const child of this.#children) child.process.kill(signal);
  }

  /** Starts a successor of the running agent; connections go on, and none is refused. Never throws. */
  replace(): void {
    if (this.#stopping.signal.aborted) return;
    if (this.#successor !== null) {
      this.#log.warn({}, 'a new agent is being started already');
      return;
    }
    this.#log.info({}, 'starting a new agent that takes over from the running one');
    const successor = this.#start([], ['--take-over']);
    this.#successor = successor;
    this.#hasTriedToReplace = true;
    void successor.exited.then((exit) => {
      if (this.#successor !== successor) return;
      this.#successor = null;
      this.#log.error({ ...exit }, 'the new agent did not take over: the running one goes on');
    });
  }

  /** Resolves with the exit code of the last child after {@link stop}. Call it once. */
  async run(): Promise<number> {
    let failures = 0;
    // What an earlier run captured is refused until this child serves, whether the child dies or only waits.
    await this.#opener?.expectChild(openAfterStartMs);
    if (this.#stopping.signal.aborted) return await this.#end(0);
    let child = this.#start(this.#kept.fds);
    for (;;) {
      const exit = await Promise.race([child.exited, child.succeeded.then(() => null)]);
      if (this.#stopping.signal.aborted) break;
      const successor = this.#successorOf(child);
      if (successor !== null) {
        // The one before died, and left it more than to take over.
        if (exit !== null && !successor.hasServed) await this.#opener?.expectChild(openAfterMs);
        child = successor;
        this.#successor = null;
        this.#hasTriedToReplace = false;
      } else {
        // A child has one chance to serve what waits. One that could not take over had none.
        if (!child.hasServed && child.hasKept) this.#kept.drop();
        await this.#opener?.expectChild(openAfterMs);
        failures = performance.now() - child.startedAtMs > settledAfterMs ? 1 : failures + 1;
        // At once: connections wait for it.
        const restartInMs = failures === 1 ? 0 : Math.min(maxRestartMs, firstRestartMs * 2 ** (failures - 2));
        this.#log.error(
          { ...exit, restartInMs, failMode: this.#opener === null ? 'closed' : 'open' },
          'the agent exited; restarting it',
        );
        await delay(restartInMs, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
        if (this.#stopping.signal.aborted) break;
        child = this.#start(this.#kept.fds);
      }
    }
    await Promise.all([...this.#children].map(({ exited }) => exited));
    const { code } = await child.exited;
    return await this.#end(code ?? 1);
  }

  async #end(code: number): Promise<number> {
    this.#kept.close();
    await this.#opener?.close();
    return code;
  }

  /** The child that runs in its place already, or is about to. */
  #successorOf(child: Child): Child | null {
    return [...this.#children].find((other) => other.startedAtMs > child.startedAtMs && !other.isSucceeded) ?? null;
  }

  /** In its own process group, so that Ctrl-C reaches the child once, through us. Twice would mean "stop at once". */
  #start(sockets: readonly number[], more: readonly string[] = []): Child {
    const [program, ...args] = this.#argv;
    const started = spawn(program, [...args, ...more], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc', ...sockets],
      detached: true,
      env: {
        ...process.env,
        ...(sockets.length === 0 ? {} : { [inheritedCount]: String(sockets.length) }),
        ...(this.#opener === null ? {} : { [sharesRules]: '1' }),
      },
    });
    let succeed = (): void => undefined;
    const succeeded = new Promise<void>((resolve) => (succeed = resolve));
    const child: Child = {
      process: started,
      startedAtMs: performance.now(),
      exited: exitOf(started, this.#log),
      succeeded,
      succeed,
      isSucceeded: false,
      hasServed: false,
      hasKept: sockets.length > 0,
    };
    this.#children.add(child);
    void child.exited.then(() => {
      this.#children.delete(child);
      this.#opener?.childEnded(started);
    });
    started.on('message', (message: FromSupervised) => this.#onMessage(child, message));
    if (this.#kept.hasManager) tell(started, { type: 'sockets-outlive-you' });
    return child;
  }

  #onMessage(child: Child, message: FromSupervised): void {
    switch (message.type) {
      case 'serving':
        child.hasServed = true;
        this.#opener?.childServes(child.process);
        return;
      case 'sockets':
        if (!child.isSucceeded && !this.#stopping.signal.aborted) this.#kept.refresh();
        return;
      case 'succeeded':
        child.isSucceeded = true;
        if (!this.#hasTriedToReplace) {
          this.#log.info({}, 'an agent that this supervisor did not start took over; this one ends');
          this.#stopping.abort();
          this.#kept.close();
        }
        child.succeed();
        return;
      case 'take-rules': {
        const { netnsInode } = message;
        const taken = this.#opener?.childTakes(child.process, netnsInode) ?? Promise.resolve();
        void taken.then(() => tell(child.process, { type: 'rules-taken', netnsInode }));
        return;
      }
      case 'give-rules-back':
        this.#opener?.childGivesBack(child.process, message.netnsInode);
        return;
      default:
        assertNever(message);
    }
  }
}

async function exitOf(child: ChildProcess, log: Log): Promise<Exit> {
  return await new Promise((resolve) => {
    child.once('exit', (code, signal) => resolve({ code, signal }));
    child.on('error', (error) => {
      log.error({ err: error }, 'the agent could not be started or signalled');
      if (child.pid === undefined) resolve({ code: 127, signal: null });
    });
  });
}

function tell(child: ChildProcess, message: ToSupervised): void {
  if (child.connected) child.send(message, () => undefined);
}
