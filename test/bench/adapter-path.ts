import { writeFileSync } from 'node:fs';
import path from 'node:path';
import type { LabNode } from '../lab/lab-node.js';
import type { LabProcess } from '../lab/lab-process.js';
import { type Adapter, type AdapterSide, type AdapterValues, fillPlaceholders } from './adapter-file.js';
import type { BenchLab } from './bench-lab.js';
import type { BenchPath, PathProcesses } from './bench-path.js';
import { pairPorts, servicePorts, type ServiceName } from './bench-ports.js';
import { waitForListener } from './listening.js';

type Pair = { readonly source: LabProcess; readonly destination: LabProcess };

/**
 * A pair of proxies from an adapter file, one pair per application. The client dials the server's address and a REDIRECT
 * rule sends the connection to the source side, as with the mesh.
 */
export class AdapterPath implements BenchPath {
  readonly name: string;
  readonly title: string;
  readonly kind: 'mutual' | 'none';
  readonly adapter: Adapter;
  readonly #lab: BenchLab;
  readonly #index: number;
  #workers = 1;
  readonly #pairs = new Map<ServiceName, Pair>();
  readonly #redirected = new Set<ServiceName>();

  /** `index` selects its ports among those that the lab reserves for adapters. */
  constructor(init: { adapter: Adapter; lab: BenchLab; index: number }) {
    this.name = init.adapter.name;
    this.title = init.adapter.title;
    this.kind = init.adapter.tls;
    this.adapter = init.adapter;
    this.#lab = init.lab;
    this.#index = init.index;
  }

  setWorkers(workers: number): void {
    this.#workers = workers;
  }

  async open(service: ServiceName): Promise<{ ip: string; port: number }> {
    const ports = pairPorts(this.#index, service);
    if (!this.#pairs.has(service)) {
      await this.#redirect(service);
      this.#pairs.set(service, await this.#start(service));
    }
    return { ip: this.#lab.server.ipv4, port: ports.dialled };
  }

  processes(service: ServiceName): PathProcesses {
    const pair = this.#pairs.get(service);
    if (pair === undefined) throw new Error(`${this.name} was not opened for ${service}`);
    return { source: [pair.source.pid], destination: [pair.destination.pid] };
  }

  async stop(): Promise<void> {
    const running = [...this.#pairs.values()].flatMap(({ source, destination }) => [source, destination]);
    this.#pairs.clear();
    await Promise.all(running.map((side) => side.stop('SIGTERM', 2000)));
  }

  async #redirect(service: ServiceName): Promise<void> {
    if (this.#redirected.has(service)) return;
    this.#redirected.add(service);
    const { dialled, source } = pairPorts(this.#index, service);
    const match = ['-p', 'tcp', '-d', this.#lab.server.ipv4, '--dport', String(dialled), '--syn'];
    const target = ['-j', 'REDIRECT', '--to-ports', String(source)];
    await this.#lab.client.check(['iptables', '-w', '5', '-t', 'nat', '-A', 'OUTPUT', ...match, ...target]);
  }

  async #start(service: ServiceName): Promise<Pair> {
    const { client, server } = this.#lab;
    const { source, destination } = pairPorts(this.#index, service);
    const application = { host: '127.0.0.1', port: servicePorts[service].plain };
    const inner = await this.#startSide(server, this.adapter.server, {
      listen: { host: server.ipv4, port: destination },
      target: application,
      service,
    });
    const outer = await this.#startSide(client, this.adapter.client, {
      // A REDIRECT changes the destination of a local connection to this address.
      listen: { host: '127.0.0.1', port: source },
      target: { host: server.ipv4, port: destination },
      service,
    });
    return { source: outer, destination: inner };
  }

  async #startSide(node: LabNode, side: AdapterSide, where: SideAddresses): Promise<LabProcess> {
    const dir = this.#lab.makeDirectory(`${this.name}-${where.service}`);
    const values: AdapterValues = {
      ...this.#lab.certificates,
      dir,
      listenHost: where.listen.host,
      listenPort: String(where.listen.port),
      targetHost: where.target.host,
      targetPort: String(where.target.port),
      workers: String(this.#workers),
      maxConnections: String(this.#lab.maxRelayed),
      maxDescriptors: String(this.#lab.maxDescriptors),
    };
    for (const [name, text] of Object.entries(side.files)) {
      writeFileSync(path.join(dir, name), fillPlaceholders(text, values), { mode: 0o600 });
    }
    const argv = side.command.map((argument) => fillPlaceholders(argument, values));
    const started = await node.spawn(argv, { logFile: path.join(dir, 'output.log'), cwd: dir });
    await waitForListener(started, where.listen.port);
    return started;
  }
}

type HostAndPort = { readonly host: string; readonly port: number };
type SideAddresses = { readonly listen: HostAndPort; readonly target: HostAndPort; readonly service: ServiceName };
