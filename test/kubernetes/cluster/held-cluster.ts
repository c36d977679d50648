import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { guardLab, releaseLab } from '../../lab/exit-guard.js';
import { foldersOfCgroup } from '../../lab/lab-cgroups.js';
import { thisProcess } from '../../lab/lab-owner.js';
import { claimPrefix, type LabState } from '../../lab/lab-state.js';
import { tearDown } from '../../lab/teardown.js';
import { testRunVariable } from '../../lab/test-processes.js';
import type { ClusterPrograms } from '../programs/build-programs.js';
import { Cluster } from './cluster.js';
import { type ClusterPlan, nodePlans, type ProxyMode } from './cluster-plan.js';
import { fabricOf, netnsOf } from './node-network.js';

export type ClusterOptions = {
  readonly programs: ClusterPrograms;
  readonly proxyMode: ProxyMode;
  readonly isDual: boolean;
  /** A link for each declared program. */
  readonly declaredDirectory: string;
};

/**
 * The cluster of this run, which goes when this object is disposed of, or this process ends in any way. After a SIGKILL the
 * next run removes it, as it does labs.
 */
export class HeldCluster implements Disposable {
  readonly cluster: Cluster;
  /** The plan, for the processes of the tests. */
  readonly file: string;
  readonly #state: LabState;

  /** Nothing of it runs yet. */
  constructor(options: ClusterOptions) {
    this.#state = claimPrefix((prefix) => ({
      prefix,
      owner: thisProcess(),
      createdAt: new Date().toISOString(),
      testRun: process.env[testRunVariable] ?? null,
      namespaces: [fabricOf({ prefix }), ...nodePlans.map((node) => netnsOf({ prefix }, node))],
      tempDir: path.join(tmpdir(), `culvert-kubernetes-${prefix}`),
      nodes: nodePlans.map(({ name, ipv4, ipv6 }) => ({ name, netns: netnsOf({ prefix }, { name }), ipv4, ipv6 })),
    }));
    guardLab(this.#state);
    const { prefix, tempDir: directory } = this.#state;
    mkdirSync(directory);
    const plan: ClusterPlan = { ...options, prefix, directory, nodes: nodePlans };
    this.cluster = new Cluster(plan);
    this.file = path.join(directory, 'plan.json');
    writeFileSync(this.file, JSON.stringify(plan));
  }

  /** Takes everything down. Throws `LAB_TEARDOWN` when a namespace stays. */
  [Symbol.dispose](): void {
    releaseLab(this.#state.prefix);
    tearDown(this.#state);
  }

  /** What is left of it on this machine, after `dispose`: a line for each mount, namespace, cgroup and folder. */
  leftovers(): string[] {
    const { prefix, tempDir, namespaces } = this.#state;
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
    const list = (directory: string): string[] => (existsSync(directory) ? readdirSync(directory) : []);
    return [
      ...mounts
        .filter((line) => line.includes(tempDir) || line.includes(`/${prefix}-`))
        .map((line) => `mount: ${line}`),
      ...list('/run/netns')
        .filter((name) => name.startsWith(prefix))
        .map((name) => `namespace: ${name}`),
      ...namespaces.flatMap((name) => foldersOfCgroup(name)).map((name) => `cgroup: ${name}`),
      ...(existsSync(tempDir) ? [`folder: ${tempDir}`] : []),
      ...processesWith(tempDir).map((line) => `process: ${line}`),
    ];
  }
}

/** Processes whose command line names a folder of the cluster. */
function processesWith(text: string): string[] {
  return readdirSync('/proc').flatMap((pid) => {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) return [];
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
      return command.includes(text) ? [`${pid} ${command}`] : [];
    } catch {
      return [];
    }
  });
}
