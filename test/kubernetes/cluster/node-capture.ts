import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { CulvertError } from '../../../shared/errors.js';
import { waitUntil } from '../../lab/wait-until.js';
import { clusterAddresses, type ClusterPlan, type NodePlan } from './cluster-plan.js';
import { netnsOf } from './node-network.js';

/**
 * Every TCP packet of a pod on every interface of a node, between its pods too, from `start` to `stop`. What is sent in
 * clear afterwards and is in it proves that all before is.
 */
export class NodeCapture implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #file: string;
  readonly #lines: string[] = [];

  private constructor(plan: ClusterPlan, node: NodePlan, name: string) {
    this.#file = path.join(plan.directory, `${node.name}-${name}.pcap`);
    // -U: every packet is written at once; --immediate-mode: the kernel does not hold any back; -Z root: keep the file.
    const flags = ['-i', 'any', '-U', '--immediate-mode', '-n', '-Z', 'root', '-B', '65536', '-s', '0'];
    const { ipv4, ipv6 } = clusterAddresses.pods;
    const filter = `tcp and (net ${ipv4} or net ${ipv6})`;
    const argv = [`--net=/run/netns/${netnsOf(plan, node)}`, 'tcpdump', ...flags, '-w', this.#file, filter];
    this.#child = spawn('nsenter', argv, { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child.on('error', (error) => this.#lines.push(error.message));
    if (this.#child.stderr !== null)
      createInterface({ input: this.#child.stderr }).on('line', (line) => this.#lines.push(line));
  }

  /** Resolves when it captures. `name`: of its file. */
  static async start(plan: ClusterPlan, node: NodePlan, name: string): Promise<NodeCapture> {
    const capture = new NodeCapture(plan, node, name);
    await waitUntil('tcpdump captures', () => {
      if (capture.#child.exitCode === null)
        return capture.#lines.some((line) => line.includes('listening on ')) || undefined;
      throw new CulvertError({ code: 'LAB_CAPTURE', message: `tcpdump ended: ${capture.#lines.join(' ')}` });
    });
    return capture;
  }

  /** Whether a text has been on the wire so far, within one packet. */
  contains(text: string): boolean {
    return readFileSync(this.#file).includes(text);
  }

  /** Ends it. Resolves with what was captured, as it is in its file. Throws when the kernel dropped a packet. */
  async stop(): Promise<Buffer> {
    await this[Symbol.asyncDispose]();
    const dropped = this.#lines.find((line) => line.includes('dropped by kernel')) ?? 'it does not say what it dropped';
    if (/^0 packets? dropped/.test(dropped)) return readFileSync(this.#file);
    throw new CulvertError({ code: 'LAB_CAPTURE', message: `The capture is not whole: ${dropped}` });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGINT');
    await once(this.#child, 'close');
  }
}
