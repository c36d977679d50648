import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { CulvertError } from '../../shared/errors.js';
import type { LabNode } from './lab-node.js';
import type { LabProcess } from './lab-process.js';
import type { WireBytes } from './pcap-file.js';
import { readPcap, wireContains } from './pcap-file.js';

export type CaptureOptions = {
  readonly at: LabNode;
  /** A tcpdump filter (pcap-filter(7)). Default: everything. */
  readonly filter?: string;
  /** Default: `eth0`, the link to the fabric, or of a workload to its host. */
  readonly interface?: string;
};

export type CapturedPackets = WireBytes & {
  /** The file as tcpdump wrote it, for Wireshark. */
  readonly pcap: Buffer;
  /** Packets that the kernel dropped. If it is not 0, the capture cannot prove that something was absent. */
  readonly droppedByKernel: number;
  contains(pattern: Buffer | string): boolean;
};

/** Destination of markers: the fabric's address and the discard port (RFC 863). */
const markerTarget = { ip: '198.18.0.1', port: 9 } as const;

/**
 * A running tcpdump. The result contains every packet from before `stop`: it sends a marker packet and waits for it, so that
 * "the pattern is absent" is a finding and not a race.
 */
export class PacketCapture implements AsyncDisposable {
  readonly #at: LabNode;
  readonly #process: LabProcess;
  readonly #file: string;
  #result: Promise<CapturedPackets> | null = null;

  private constructor(init: { at: LabNode; process: LabProcess; file: string }) {
    this.#at = init.at;
    this.#process = init.process;
    this.#file = init.file;
  }

  /** Resolves when tcpdump is capturing, which a first marker in the file proves. */
  static async start(options: CaptureOptions & { readonly directory: string }): Promise<PacketCapture> {
    const { at } = options;
    const file = path.join(options.directory, `${at.netns}-${randomBytes(4).toString('hex')}.pcap`);
    const marker = `udp and dst host ${markerTarget.ip} and dst port ${markerTarget.port}`;
    const filter = options.filter === undefined ? [] : [`(${options.filter}) or (${marker})`];
    // -U: every packet is written at once; --immediate-mode: the kernel does not hold any back; -Z root: keep the file.
    const flags = ['-i', options.interface ?? 'eth0', '-U', '--immediate-mode', '-n', '-Z', 'root', '-B', '16384'];
    const tcpdump = await at.spawn(['tcpdump', ...flags, '-s', '0', '-w', file, ...filter]);
    await tcpdump.waitForLine(/listening on /);
    const capture = new PacketCapture({ at, process: tcpdump, file });
    await capture.#passMarker();
    return capture;
  }

  /** Whether the pattern has been on the wire so far. */
  contains(pattern: Buffer | string): boolean {
    return wireContains(readPcap(readFileSync(this.#file)), pattern);
  }

  /** Stops tcpdump and returns what it captured. A second call returns the same. */
  stop(): Promise<CapturedPackets> {
    this.#result ??= this.#finish();
    return this.#result;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#result === null) await this.#process.stop('SIGINT');
    else await this.#result;
  }

  async #finish(): Promise<CapturedPackets> {
    await this.#passMarker();
    await this.#process.stop('SIGINT');
    const dropped = await this.#process.waitForLine(/^(\d+) packets? dropped by kernel/);
    const pcap = readFileSync(this.#file);
    const wire = readPcap(pcap);
    const contains = (pattern: Buffer | string): boolean => wireContains(wire, pattern);
    return { ...wire, pcap, droppedByKernel: Number(dropped[1]), contains };
  }

  async #passMarker(): Promise<void> {
    const marker = `culvert-marker-${randomBytes(8).toString('hex')}`;
    const { ip, port } = markerTarget;
    await this.#at.check(['bash', '-c', `printf %s ${marker} > /dev/udp/${ip}/${port}`]);
    const deadline = Date.now() + 5000;
    while (!readFileSync(this.#file).includes(marker)) {
      if (Date.now() > deadline || this.#process.hasExited) throw this.#lost();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  #lost(): CulvertError {
    const message = `tcpdump at ${this.#at.name} did not see a packet that was sent there: ${this.#process.lines.join(' ')}`;
    return new CulvertError({
      code: 'LAB_CAPTURE',
      message,
      hint: 'capture on the interface towards the fabric, eth0',
    });
  }
}
