import { closeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { CulvertError } from '../../../shared/errors.js';
import { listenerOf } from '../../native/passed-sockets.js';
import { ownNetnsInode } from '../../native/netns.js';
import { hostPorts } from '../../ports.js';
import { Predecessor, requireNoAgent } from './predecessor.js';

/** How long a starting agent may take until it listens for every workload; the running one serves meanwhile. */
const listenTimeoutMs = 15_000;
const pollMs = 10;

/** What a starting agent gets from the one before it, and when it may manage this host. */
export class TakingOver {
  /** Listening sockets of workloads. They become the caller's. */
  readonly workloadSockets: readonly number[];
  /** Inodes of the namespaces that the running agent listens in; empty: none runs. */
  readonly servedBefore: ReadonlySet<number>;
  readonly #endpointSockets: number[];
  readonly #probeSockets: number[];
  /** When no other agent manages this host any more. Rejects if that never comes. */
  readonly inCharge: Promise<void>;
  readonly #predecessor: Predecessor | null;
  #isInCharge = false;
  #take: () => void = () => undefined;
  #refuse: (error: Error) => void = () => undefined;

  /**
   * Asks the agent that runs with this state directory for its sockets. If none runs, `kept` are used. Throws
   * CulvertError as {@link requireNoAgent} unless `isWanted`, and as {@link Predecessor.find}.
   */
  constructor(init: { readonly stateDir: string; readonly kept: readonly number[]; readonly isWanted: boolean }) {
    if (!init.isWanted) requireNoAgent(init.stateDir);
    this.#predecessor = Predecessor.find(init.stateDir);
    // Kept ones are copies of a running agent's, and one copy is enough.
    if (this.#predecessor !== null) for (const fd of init.kept) closeSync(fd);
    const sockets = this.#predecessor?.sockets ?? init.kept;
    const own = ownNetnsInode();
    const isOwn = (fd: number): boolean => listenerOf(fd)?.netnsInode === own;
    const isForProbes = (fd: number): boolean => listenerOf(fd)?.port === hostPorts.probes;
    this.#endpointSockets = sockets.filter((fd) => isOwn(fd) && !isForProbes(fd));
    this.#probeSockets = sockets.filter((fd) => isOwn(fd) && isForProbes(fd));
    this.workloadSockets = sockets.filter((fd) => !isOwn(fd));
    const before = this.#predecessor === null ? [] : this.workloadSockets;
    this.servedBefore = new Set(before.flatMap((fd) => listenerOf(fd)?.netnsInode ?? []));
    this.inCharge = new Promise((resolve, reject) => {
      this.#take = () => {
        this.#isInCharge = true;
        resolve();
      };
      this.#refuse = reject;
    });
    // A start that fails is reported once, by its caller.
    this.inCharge.catch(() => undefined);
    if (this.#predecessor === null) this.#take();
  }

  /** Process id of the agent that runs; null: none does. */
  get from(): number | null {
    return this.#predecessor?.pid ?? null;
  }

  get isInCharge(): boolean {
    return this.#isInCharge;
  }

  /** Listening sockets of this host's own namespace, which become the caller's. A second call returns none. */
  takeEndpointSockets(): readonly number[] {
    return this.#endpointSockets.splice(0);
  }

  /** Those to which the host's rules lead probes, which become the caller's. Who wants none takes none, and they are closed. */
  takeProbeSockets(): readonly number[] {
    return this.#probeSockets.splice(0);
  }

  /**
   * Resolves when this process listens for every workload. `missing` says what keeps it from that; null: nothing. Throws
   * CulvertError `TAKE_OVER`: it takes too long.
   */
  async whenListening(missing: () => string | null): Promise<void> {
    const deadlineMs = performance.now() + listenTimeoutMs;
    for (let problem = missing(); problem !== null; problem = missing()) {
      if (performance.now() > deadlineMs) {
        throw new CulvertError({
          code: 'TAKE_OVER',
          message: `this agent did not come to serve every workload within ${listenTimeoutMs / 1000} s: ${problem}`,
          hint: `the agent with pid ${this.from} goes on; mend this and start the new one again`,
        });
      }
      await delay(pollMs);
    }
  }

  /** Resolves when the running agent has let go: from now on this process manages the host. Throws `AGENT_SILENT`. */
  async takeCharge(): Promise<void> {
    await this.#predecessor?.takeOver();
    for (const fd of this.takeProbeSockets()) closeSync(fd);
    this.#take();
  }

  /** Calls back when this process has managed the host for that time; not if it never does. Holds up no exit. */
  inChargeFor(delayMs: number, callback: () => void): void {
    void this.inCharge.then(
      () => setTimeout(callback, delayMs).unref(),
      () => undefined,
    );
  }

  /** The start failed: the running agent goes on as before. */
  giveUp(): void {
    this.#predecessor?.giveUp();
    for (const fd of this.takeProbeSockets()) closeSync(fd);
    this.#refuse(new CulvertError({ code: 'STOPPED', message: 'this agent stops before it was in charge' }));
  }
}
