import { join } from 'node:path';
import type { Log } from '../../../shared/log.js';
import type { WorkloadReconciler } from '../workloads/workload-reconciler.js';
import { CniSocket } from './cni-socket.js';
import { EnrolledList } from './enrolled-list.js';
import { RegisteredPods } from './enrolled-pods.js';
import { PodCapture } from './pod-capture.js';

/** The agent's side of the CNI plugin: the socket, and the list for the time without an agent. */
export class Cni implements Disposable {
  readonly #socket: CniSocket;
  readonly #list: EnrolledList;
  readonly #stop: () => void;
  #isClosed = false;

  /** Null: the settings name no socket. `inCharge`: when no other agent manages this host any more. */
  static start(init: {
    readonly cniSocket: string | null;
    readonly stateDir: string;
    readonly reconciler: WorkloadReconciler;
    /** Whether every workload of the mesh is known. */
    readonly isComplete: () => boolean;
    readonly inCharge: Promise<void>;
    readonly log: Log;
  }): Cni | null {
    return init.cniSocket === null ? null : new Cni({ ...init, path: init.cniSocket });
  }

  private constructor(init: Parameters<typeof Cni.start>[0] & { readonly path: string }) {
    const { reconciler, isComplete, log } = init;
    const pods = new RegisteredPods({ wanted: () => reconciler.wanted, isComplete });
    const capture = new PodCapture({ pods, reconciler });
    this.#list = new EnrolledList({ path: join(init.stateDir, 'cni-enrolled'), log });
    this.#socket = new CniSocket({
      path: init.path,
      log,
      answer: (request, signal) => capture.answer(request, signal),
    });
    let isInCharge = false;
    this.#stop = reconciler.onProgress(() => {
      const namespaces = isInCharge && !this.#isClosed ? pods.namespaces() : null;
      if (namespaces !== null) this.#list.update(namespaces);
    });
    const takeCharge = async (): Promise<void> => {
      isInCharge = true;
      if (!this.#isClosed) await this.#socket.open();
    };
    // Otherwise the start failed, and its caller says so.
    void init.inCharge.then(takeCharge, () => undefined);
  }

  /** What is wrong and what it means; null: nothing. */
  get problem(): string | null {
    const { problem } = this.#socket;
    return problem === null ? this.#list.problem : `the CNI plugin of this node gets no answer: ${problem}`;
  }

  close(): void {
    this.#isClosed = true;
    this.#stop();
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
