import { closeSync } from 'node:fs';
import { describeError } from '../../../shared/errors.js';
import type { WorkloadName } from '../../../shared/routing/names.js';
import { pinNetns } from '../../native/netns.js';
import { allowedNetnsPath } from '../workloads/network-namespace.js';
import type { CniOutcome, CniRequest } from './cni-request.js';
import type { EnrolledPods } from './enrolled-pods.js';

/** For the way of the answer, of the time that the plugin waits. */
const reserveMs = 250;
/** How long a pod of which nothing is known is held. */
const maxUnknownMs = 5000;

const unheardOf =
  'its namespace is in the mesh, and the controller has not told the agent of the pod: see what culvert check says of it';

/** How far the reconciler is with a workload and its namespace. */
export type Protection = {
  /** Rules are in it: its connections wait, or are captured. */
  readonly isProtected: boolean;
  /** Why the last try to load them failed; null: there was none, or it goes on. */
  readonly problem: string | null;
};

/** The part of `WorkloadReconciler` that brings a namespace in. */
export type PodReconciler = {
  expectNamespace(): void;
  protectionOf(name: WorkloadName, netnsInode: number): Protection;
  /** Calls back at each step of any workload, until the returned function is called. */
  onProgress(callback: () => void): () => void;
};

/**
 * Answers the CNI plugin when the kernel has the rules of a pod. It loads none itself: the reconciler finds the namespace of a
 * workload and closes it, as it does for one that appears by other means.
 */
export class PodCapture {
  readonly #pods: EnrolledPods;
  readonly #reconciler: PodReconciler;

  constructor(init: { readonly pods: EnrolledPods; readonly reconciler: PodReconciler }) {
    this.#pods = init.pods;
    this.#reconciler = init.reconciler;
  }

  /** Never rejects. `signal`: the plugin has gone, and its answer is read by nothing. */
  async answer(request: CniRequest, signal: AbortSignal): Promise<CniOutcome> {
    const netnsPath = allowedNetnsPath(request.netns);
    if (netnsPath === null) return failed(`${request.netns} is not in /run/netns, where network namespaces are`);
    let fd: number | null = null;
    try {
      // While it is open, no other namespace gets its inode.
      const pinned = pinNetns(netnsPath);
      fd = pinned.fd;
      return await this.#whenKnown(request, netnsPath, pinned.inode, signal);
    } catch (error) {
      return failed(describeError(error));
    } finally {
      if (fd !== null) closeSync(fd);
    }
  }

  async #whenKnown(
    { command, pod, timeoutMs }: CniRequest,
    netnsPath: string,
    netnsInode: number,
    signal: AbortSignal,
  ): Promise<CniOutcome> {
    const startedAtMs = performance.now();
    using steps = new Steps(this.#reconciler, signal);
    for (let isFirst = true; ; isFirst = false) {
      const enrolment = this.#pods.find({ ...pod, netnsPath, netnsInode });
      if (enrolment.kind === 'notEnrolled') return { outcome: 'notEnrolled' };
      const { isProtected, problem } =
        enrolment.kind === 'workload'
          ? this.#reconciler.protectionOf(enrolment.name, netnsInode)
          : { isProtected: false, problem: null };
      if (isProtected) return { outcome: 'captured' };
      const mostMs = enrolment.kind === 'unknown' ? Math.min(maxUnknownMs, timeoutMs) : timeoutMs;
      const leftMs = command === 'CHECK' ? 0 : startedAtMs + mostMs - reserveMs - performance.now();
      if (problem !== null && (!isFirst || command === 'CHECK')) return failed(problem);
      if (leftMs <= 0 || signal.aborted) {
        if (enrolment.kind === 'workload') return failed(`${enrolment.name} is not captured yet`);
        if (enrolment.kind === 'awaited' && command === 'ADD') return failed(unheardOf);
        if (enrolment.kind === 'awaited') return { outcome: 'unknown' };
        return { outcome: enrolment.isLate ? 'notEnrolled' : 'unknown' };
      }
      if (isFirst) this.#reconciler.expectNamespace();
      await steps.next(leftMs);
    }
  }
}

function failed(problem: string): CniOutcome {
  return { outcome: 'failed', problem };
}

/** Waits for steps of the reconciler. One that came between two waits counts for the next. */
class Steps {
  readonly #stop: () => void;
  #hasCome = false;
  #wake: () => void = () => undefined;

  constructor(reconciler: PodReconciler, signal: AbortSignal) {
    const tell = (): void => {
      this.#hasCome = true;
      this.#wake();
    };
    const stop = reconciler.onProgress(tell);
    signal.addEventListener('abort', tell);
    this.#stop = () => {
      stop();
      signal.removeEventListener('abort', tell);
    };
  }

  /** Resolves at the next step, after `mostMs` at the latest. */
  async next(mostMs: number): Promise<void> {
    if (!this.#hasCome) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, mostMs);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.#hasCome = false;
  }

  [Symbol.dispose](): void {
    this.#stop();
  }
}
