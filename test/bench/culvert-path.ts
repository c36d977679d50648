import type { BenchLab } from './bench-lab.js';
import type { BenchPath } from './bench-path.js';
import { servicePorts } from './bench-ports.js';

/** The mesh: the agents of both hosts, started with the first {@link BenchPath.open}. */
export class CulvertPath implements BenchPath {
  readonly name = 'culvert';
  readonly title = 'Culvert';
  readonly kind = 'culvert';
  readonly #lab: BenchLab;
  readonly #engineArgs: readonly string[];
  #workers = 1;
  #isRunning = false;
  #hasJoined = false;

  /** `engineArgs` are passed to every agent unchanged. */
  constructor(init: { lab: BenchLab; engineArgs: readonly string[] }) {
    this.#lab = init.lab;
    this.#engineArgs = init.engineArgs;
  }

  setWorkers(workers: number): void {
    this.#workers = workers;
  }

  async open(service: keyof typeof servicePorts): Promise<{ ip: string; port: number }> {
    await this.#start();
    return { ip: this.#lab.server.ipv4, port: servicePorts[service].captured };
  }

  processes(): { source: number[]; destination: number[] } {
    const pidOn = (host: string): number => this.#lab.mesh.agent(host).process.pid;
    const source = [pidOn(this.#lab.client.host)];
    // On one host, one agent serves both ends and counts once.
    const isSameHost = this.#lab.client.host === this.#lab.server.host;
    return { source, destination: isSameHost ? [] : [pidOn(this.#lab.server.host)] };
  }

  async stop(): Promise<void> {
    if (!this.#isRunning) return;
    this.#isRunning = false;
    await Promise.all(this.#lab.mesh.agents.map((agent) => agent.stop()));
  }

  async #start(): Promise<void> {
    if (this.#isRunning) return;
    await Promise.all(
      this.#lab.mesh.agents.map(async (agent) => {
        if (!this.#hasJoined) await agent.fetchToken();
        await agent.start(['--workers', String(this.#workers), ...this.#engineArgs]);
        await agent.waitReady(30_000);
      }),
    );
    this.#hasJoined = true;
    this.#isRunning = true;
  }
}
