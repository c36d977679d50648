import { CulvertError, describeError } from '../../../../shared/errors.js';
import { isQueueMissing, isQueueTaken } from '../../../native/syn-queue.js';
import { synQueueNumber } from '../../../ports.js';
import type { LateAcceptState } from '../../messages.js';
import type { HostedWorkload } from '../hosted-workload.js';
import { LateAccept, type LateAcceptHandlers } from './late-accept.js';

/** Another process of this agent may have the queue until its drain begins. */
const retryMs = 100;
const givesUpAfterMs = 10_000;

const closed: LateAcceptState = { isOpen: false, problem: null };

/** Keeps {@link LateAccept} open in the namespaces of those workloads that need it and that this worker serves. */
export class LateHosting {
  readonly #isMine: (workload: HostedWorkload) => boolean;
  readonly #backlog: number;
  readonly #handlers: LateAcceptHandlers;
  readonly #onState: (workload: HostedWorkload) => void;
  readonly #hosted = new Map<HostedWorkload, Hosted>();

  /** `onState`: what {@link stateOf} says of the workload changed by itself. */
  constructor(init: {
    readonly isMine: (workload: HostedWorkload) => boolean;
    readonly backlog: number;
    readonly handlers: LateAcceptHandlers;
    readonly onState: (workload: HostedWorkload) => void;
  }) {
    this.#isMine = init.isMine;
    this.#backlog = init.backlog;
    this.#handlers = init.handlers;
    this.#onState = init.onState;
  }

  /** Never throws; see {@link stateOf}. Tries again what failed before. */
  apply(workload: HostedWorkload, isWanted: boolean): void {
    if (!isWanted) {
      this.release(workload);
      return;
    }
    if (!this.#isMine(workload)) return;
    const hosted = this.#hosted.get(workload) ?? { late: null, problem: null, timer: null, triedSinceMs: null };
    this.#hosted.set(workload, hosted);
    if (hosted.late === null && hosted.timer === null) this.#open(workload, hosted);
  }

  /** Neither open nor a problem: it is not wanted here, or is being opened. */
  stateOf(workload: HostedWorkload | null): LateAcceptState {
    const hosted = workload === null ? undefined : this.#hosted.get(workload);
    return hosted === undefined ? closed : { isOpen: hosted.late !== null, problem: hosted.problem };
  }

  /** Connects that wait, of all workloads. */
  get held(): number {
    let held = 0;
    for (const { late } of this.#hosted.values()) held += late?.held ?? 0;
    return held;
  }

  probe(workload: HostedWorkload): void {
    this.#hosted.get(workload)?.late?.probe(workload.probing.open);
  }

  release(workload: HostedWorkload): void {
    const hosted = this.#hosted.get(workload);
    this.#hosted.delete(workload);
    if (hosted?.timer != null) clearTimeout(hosted.timer);
    hosted?.late?.close();
  }

  releaseAll(): void {
    for (const workload of this.#hosted.keys()) this.release(workload);
  }

  #open(workload: HostedWorkload, hosted: Hosted): void {
    hosted.triedSinceMs ??= performance.now();
    try {
      const onLost = (error: Error): void => this.#onLost(workload, hosted, error);
      const late = LateAccept.open({ workload, backlog: this.#backlog, handlers: this.#handlers, onLost });
      hosted.late = late;
      hosted.problem = null;
      hosted.triedSinceMs = null;
    } catch (error) {
      if (this.#hosted.get(workload) === hosted) this.#onFailure(workload, hosted, error);
    }
  }

  #onFailure(workload: HostedWorkload, hosted: Hosted, error: unknown): void {
    const code = error instanceof CulvertError ? error.code : '';
    const isWorthWaiting = isQueueTaken(code) || code === 'EADDRINUSE';
    if (isWorthWaiting && performance.now() - (hosted.triedSinceMs ?? 0) < givesUpAfterMs) {
      this.#retry(workload, hosted);
      return;
    }
    hosted.triedSinceMs = null;
    hosted.problem = problemOf(code, error);
  }

  #onLost(workload: HostedWorkload, hosted: Hosted, error: Error): void {
    hosted.late?.close();
    hosted.late = null;
    hosted.problem = `the kernel ended the queue of SYNs: ${describeError(error)}`;
    if (this.#hosted.get(workload) !== hosted) return;
    this.#onState(workload);
    this.#retry(workload, hosted);
  }

  #retry(workload: HostedWorkload, hosted: Hosted): void {
    hosted.timer = setTimeout(() => {
      hosted.timer = null;
      const before = this.stateOf(workload);
      this.#open(workload, hosted);
      const { isOpen, problem } = this.stateOf(workload);
      if (isOpen !== before.isOpen || problem !== before.problem) this.#onState(workload);
    }, retryMs);
  }
}

type Hosted = {
  late: LateAccept | null;
  problem: string | null;
  timer: NodeJS.Timeout | null;
  /** In terms of `performance.now()`; null: nothing is being tried. */
  triedSinceMs: number | null;
};

function problemOf(code: string, error: unknown): string {
  if (isQueueMissing(code)) return 'the kernel has no nfnetlink_queue (modprobe nfnetlink_queue)';
  if (isQueueTaken(code)) return `another program has the packet queue ${synQueueNumber} in its namespace`;
  return describeError(error);
}
