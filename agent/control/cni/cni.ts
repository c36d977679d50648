import { join, resolve } from 'node:path';
import type { Log } from '../../../shared/log.js';
import type { AgentSettings } from '../../config/agent-settings.js';
import { CniInstaller } from '../../native/cni-installer.js';
import type { EnrolmentFollower } from '../followers/enrolment-follower.js';
import type { PodSandboxes } from '../workloads/pod-sandboxes.js';
import type { WorkloadReconciler } from '../workloads/workload-reconciler.js';
import { CniSocket } from './cni-socket.js';
import { EnrolledList } from './enrolled-list.js';
import { RegisteredPods } from './enrolled-pods.js';
import { PodCapture, type PodReconciler } from './pod-capture.js';

type CniSettings = Pick<AgentSettings, 'cniSocket' | 'cniConfigDir' | 'cniBinDir' | 'cniOwnNamespace' | 'stateDir'>;

/** Null: it does not answer a plugin. */
export function cniSocketOf({
  cniSocket,
  cniConfigDir,
  stateDir,
}: Omit<CniSettings, 'cniBinDir' | 'cniOwnNamespace'>): string | null {
  return cniSocket ?? (cniConfigDir === null ? null : join(stateDir, 'cni.sock'));
}

function listOf(stateDir: string): string {
  return join(stateDir, 'cni-enrolled');
}

/** Call it while this process is root. Null: the settings name no chain to put the plugin into. */
export function startCniInstaller(settings: CniSettings): CniInstaller | null {
  const { cniConfigDir, cniBinDir, cniOwnNamespace, stateDir } = settings;
  const socket = cniSocketOf(settings);
  if (cniConfigDir === null || socket === null) return null;
  return new CniInstaller({
    configDirectory: cniConfigDir,
    binDirectory: cniBinDir,
    entry: { socket: resolve(socket), enrolled: resolve(listOf(stateDir)), ownNamespace: cniOwnNamespace },
  });
}

/** The agent's side of the CNI plugin: the socket, the list for the time without an agent, and its place in the chain. */
export class Cni implements Disposable {
  readonly #socket: CniSocket;
  readonly #list: EnrolledList;
  readonly #installer: CniInstaller | null;
  readonly #enrolment: Pick<EnrolmentFollower, 'current'> | null;
  readonly #log: Log;
  readonly #stop: () => void;
  #isInstalling = false;
  #isClosed = false;

  /** Null: the settings name no socket. `inCharge`: when no other agent manages this host any more. */
  static start(init: {
    readonly settings: Omit<CniSettings, 'cniBinDir' | 'cniOwnNamespace'>;
    /** Null: another program puts the plugin into the chain, or none does. */
    readonly installer: CniInstaller | null;
    readonly reconciler: WorkloadReconciler;
    /** Whether every workload of the mesh is known. */
    readonly isComplete: () => boolean;
    /** Whether changes of them arrive. */
    readonly isCurrent: () => boolean;
    readonly sandboxes: Pick<PodSandboxes, 'place'>;
    /** What the controller says of pods that are still to start; null: nothing asks for it. */
    readonly enrolment: Pick<EnrolmentFollower, 'current' | 'onChange'> | null;
    readonly inCharge: Promise<void>;
    readonly log: Log;
  }): Cni | null {
    const path = cniSocketOf(init.settings);
    return path === null ? null : new Cni({ ...init, path });
  }

  private constructor(init: Parameters<typeof Cni.start>[0] & { readonly path: string }) {
    const { isComplete, isCurrent, sandboxes, enrolment, installer, log } = init;
    const reconciler = alsoTelling(init.reconciler, enrolment);
    this.#installer = installer;
    this.#enrolment = enrolment;
    this.#log = log;
    const pods = new RegisteredPods({
      wanted: () => init.reconciler.wanted,
      isComplete,
      isCurrent,
      told: () => enrolment?.current ?? null,
      place: (uid, netnsPath) => sandboxes.place(uid, netnsPath),
    });
    const capture = new PodCapture({ pods, reconciler });
    this.#list = new EnrolledList({ path: listOf(init.settings.stateDir), log });
    this.#socket = new CniSocket({
      path: init.path,
      log,
      answer: (request, signal) => capture.answer(request, signal),
    });
    let isInCharge = false;
    this.#stop = reconciler.onProgress(() => {
      const enrolled = isInCharge && !this.#isClosed ? pods.enrolled() : null;
      if (enrolled !== null) this.#list.update(enrolled);
      if (isInCharge) this.#installWhenReady();
    });
    const takeCharge = async (): Promise<void> => {
      isInCharge = true;
      if (!this.#isClosed) await this.#socket.open();
    };
    installer?.onChange((said) => log.info(said, 'the CNI plugin in the chain of this node'));
    // Otherwise the start failed, and its caller says so.
    void init.inCharge.then(takeCharge, () => undefined);
  }

  /** Whether it is known, of a cluster, which namespaces are in the mesh. */
  get knowsEnrolment(): boolean {
    return (this.#enrolment?.current ?? null) !== null;
  }

  /** What is wrong and what it means; null: nothing. */
  get problem(): string | null {
    const { problem } = this.#socket;
    if (problem !== null) return `the CNI plugin of this node gets no answer: ${problem}`;
    const notInstalled = this.#installer?.problem ?? null;
    return notInstalled === null ? this.#list.problem : `pods start without the CNI plugin: ${notInstalled}`;
  }

  /** Takes the plugin out of the chain. Never rejects. */
  async takeOut(): Promise<void> {
    const left = (await this.#installer?.remove()) ?? null;
    if (left !== null) this.#log.error({ problem: left }, 'the CNI plugin is still in the chain of this node');
  }

  close(): void {
    this.#isClosed = true;
    this.#stop();
    this.#socket.close();
  }

  /** Before, a pod would wait in vain. */
  #installWhenReady(): void {
    if (this.#isInstalling || this.#isClosed || this.#socket.problem !== null || !this.#list.isWritten) return;
    this.#isInstalling = true;
    this.#installer?.install();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Each change of what the controller says is a step too. */
function alsoTelling(reconciler: PodReconciler, enrolment: Pick<EnrolmentFollower, 'onChange'> | null): PodReconciler {
  return {
    expectNamespace: () => reconciler.expectNamespace(),
    protectionOf: (name, netnsInode) => reconciler.protectionOf(name, netnsInode),
    onProgress: (callback) => {
      const stops = [reconciler.onProgress(callback), enrolment?.onChange(callback)];
      return () => stops.forEach((stop) => stop?.());
    },
  };
}
