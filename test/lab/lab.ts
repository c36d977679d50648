import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { IpAddress } from '../../shared/address.js';
import { CulvertError } from '../../shared/errors.js';
import { nearestName } from '../../shared/nearest-name.js';
import type { LabPlan } from './address-plan.js';
import { planLab, plannedNamespaces } from './address-plan.js';
import { buildNetwork } from './build-network.js';
import { guardLab, releaseLab } from './exit-guard.js';
import { LabNode, LabWorkload } from './lab-node.js';
import { thisProcess } from './lab-owner.js';
import type { LabState } from './lab-state.js';
import { claimPrefix } from './lab-state.js';
import type { CaptureOptions } from './packet-capture.js';
import { PacketCapture } from './packet-capture.js';
import { requireCommands } from './requirements.js';
import { renderResources } from './resources.js';
import { sweepStaleLabs, tearDown } from './teardown.js';
import { testRunVariable } from './test-processes.js';
import type { LabTopology } from './topology.js';

/**
 * Hosts and workloads as network namespaces of this machine, joined by a bridge in another namespace, so that the machine's
 * own interfaces, routes and rules stay untouched. {@link createLab} creates it; disposing it, or the end of this process,
 * removes it.
 */
export class Lab implements AsyncDisposable {
  /** Prefix of the names of this lab's namespaces; unique on this machine. */
  readonly prefix: string;
  /** A directory for files of the lab's user. It is removed with the lab; only root can read it. */
  readonly tempDir: string;
  readonly hosts: readonly LabNode[];
  readonly workloads: readonly LabWorkload[];
  readonly #plan: LabPlan;
  readonly #state: LabState;
  #closing: Promise<void> | null = null;

  constructor(init: { plan: LabPlan; state: LabState }) {
    this.#plan = init.plan;
    this.#state = init.state;
    this.prefix = init.plan.prefix;
    this.tempDir = init.state.tempDir;
    this.hosts = init.plan.machines.map((machine) => new LabNode({ machine }));
    this.workloads = init.plan.workloads.map(
      (machine) => new LabWorkload({ machine, spec: machine.spec, host: machine.host }),
    );
  }

  /** A host, `controller` or an external host. Throws `LAB_NAME`. */
  host(name: string): LabNode {
    const found = this.hosts.find((node) => node.name === name);
    return found ?? this.#unknown('host', name, namesOf(this.hosts));
  }

  /** A workload by `name`, or by `namespace/name` when the name is not unique. Throws `LAB_NAME`. */
  workload(name: string): LabWorkload {
    const found = this.workloads.filter((node) => node.name === name || node.meshName === name);
    if (found.length === 1 && found[0] !== undefined) return found[0];
    return this.#unknown(
      'workload',
      name,
      found.length > 1 ? found.map((node) => node.meshName) : namesOf(this.workloads),
    );
  }

  /** The virtual addresses of a service, by `name` or `namespace/name`. Throws `LAB_NAME`. */
  vip(name: string): { readonly ipv4: IpAddress; readonly ipv6: IpAddress } {
    const services = this.#plan.services;
    const found = services.find(({ spec }) => spec.name === name || `${spec.namespace}/${spec.name}` === name);
    return found ?? this.#unknown('service', name, namesOf(services.map(({ spec }) => spec)));
  }

  /** Starts tcpdump. Resolves when it is capturing. */
  capture(options: CaptureOptions): Promise<PacketCapture> {
    return PacketCapture.start({ ...options, directory: this.tempDir });
  }

  /** The topology as documents for `culvert apply`: a Workload for each workload, a Service for each service. */
  resources(): string {
    return renderResources(this.#plan);
  }

  /** Stops everything that runs in the lab and removes it. A second call waits for the first. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    const closed = Promise.all([...this.hosts, ...this.workloads].map((node) => node.close()));
    try {
      // Does not wait: a daemon keeps the output of the program that started it open until it is killed here.
      tearDown(this.#state);
      releaseLab(this.prefix);
    } finally {
      await closed;
    }
  }

  #unknown(what: string, name: string, known: readonly string[]): never {
    const nearest = nearestName(name, known);
    const hint = `known: ${known.join(', ')}${nearest === undefined ? '' : `; did you mean "${nearest}"?`}`;
    throw new CulvertError({ code: 'LAB_NAME', message: `This lab has no single ${what} "${name}".`, hint });
  }
}

export type LabOptions = {
  /** The lab outlives this process, until `npm run lab -- down PREFIX`. */
  readonly isHeld?: boolean;
};

/**
 * Builds a lab, after removing labs whose owner died. Throws `LAB_TOPOLOGY`, `REQUIREMENT_MISSING` (not root, or a program is
 * missing) and `COMMAND_FAILED`, and leaves nothing behind.
 */
export async function createLab(topology: LabTopology, options: LabOptions = {}): Promise<Lab> {
  requireCommands(['ip', 'nsenter']);
  sweepStaleLabs();
  const isHeld = options.isHeld ?? false;
  const { plan, state } = claimLab(topology, isHeld);
  guardLab(state);
  try {
    // The user of an agent passes through it.
    mkdirSync(state.tempDir, { mode: 0o711 });
    await buildNetwork(plan);
    if (isHeld) releaseLab(state.prefix);
    return new Lab({ plan, state });
  } catch (error) {
    tearDown(state);
    releaseLab(state.prefix);
    throw error;
  }
}

function claimLab(topology: LabTopology, isHeld: boolean): { plan: LabPlan; state: LabState } {
  const state = claimPrefix((prefix) => describeLab(planLab(prefix, topology), isHeld));
  return { plan: planLab(state.prefix, topology), state };
}

function describeLab(plan: LabPlan, isHeld: boolean): LabState {
  return {
    prefix: plan.prefix,
    owner: isHeld ? null : thisProcess(),
    createdAt: new Date().toISOString(),
    testRun: process.env[testRunVariable] ?? null,
    namespaces: plannedNamespaces(plan),
    tempDir: path.join(tmpdir(), `culvert-lab-${plan.prefix}-${randomBytes(4).toString('hex')}`),
    nodes: [...plan.machines, ...plan.workloads].map(({ name, netns, ipv4, ipv6 }) => ({ name, netns, ipv4, ipv6 })),
  };
}

function namesOf(named: readonly { readonly name: string }[]): string[] {
  return named.map(({ name }) => name);
}
