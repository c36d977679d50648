import type { Socket } from 'node:net';
import type { IpAddress } from '../../shared/address.js';
import type { PlannedMachine } from './address-plan.js';
import type { CommandOptions, CommandResult } from './command.js';
import { requireSuccess, runCommand } from './command.js';
import type { SpawnOptions } from './lab-process.js';
import { LabProcess } from './lab-process.js';
import type { ConnectOptions, LabServer, ListenOptions } from './namespace-sockets.js';
import { NamespaceSockets } from './namespace-sockets.js';
import { requireProgram } from './requirements.js';
import type { WorkloadSpec } from './topology.js';

/**
 * One network namespace of a lab: a host, the controller's machine, an external host or a workload. Programs in it see its
 * network, its /etc/hosts and its /sys, but the machine's files and process ids.
 */
export class LabNode {
  readonly name: string;
  /** Name under /run/netns. */
  readonly netns: string;
  readonly netnsPath: string;
  readonly ipv4: IpAddress;
  readonly ipv6: IpAddress;
  readonly #processes = new Set<LabProcess>();
  #sockets: NamespaceSockets | null = null;

  constructor(init: { machine: PlannedMachine }) {
    const { name, netns, ipv4, ipv6 } = init.machine;
    this.name = name;
    this.netns = netns;
    this.netnsPath = `/run/netns/${netns}`;
    this.ipv4 = ipv4;
    this.ipv6 = ipv6;
  }

  /** Runs a program to its end; see `runCommand` for the errors. Throws `REQUIREMENT_MISSING` when it is not installed. */
  async exec(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    return await runCommand(this.#inside(argv), options);
  }

  /** Runs a program that must exit with 0 and returns its stdout; otherwise throws `COMMAND_FAILED`. */
  async check(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
    return await requireSuccess(this.#inside(argv), options);
  }

  /** Starts a program in the background. The teardown of the lab stops it. */
  async spawn(argv: readonly string[], options: SpawnOptions = {}): Promise<LabProcess> {
    const labProcess = await LabProcess.start(this.#inside(argv), options);
    this.#processes.add(labProcess);
    void labProcess.exited.then(() => this.#processes.delete(labProcess));
    return labProcess;
  }

  /** A connection of this process, dialled from inside the namespace. The teardown of the lab destroys it. */
  connect(options: ConnectOptions): Promise<Socket> {
    return this.#openSockets().connect(options);
  }

  /** A listener of this process inside the namespace; the handler's sockets are half-open capable. */
  listen(options: ListenOptions, onConnection: (socket: Socket) => void): Promise<LabServer> {
    return this.#openSockets().listen(options, onConnection);
  }

  /** Kills the programs and destroys the sockets that were started through this object. For the lab. */
  async close(): Promise<void> {
    for (const labProcess of this.#processes) labProcess.signal('SIGKILL');
    await this.#sockets?.close();
    await Promise.all([...this.#processes].map((labProcess) => labProcess.exited));
  }

  #inside(argv: readonly string[]): string[] {
    if (argv[0] !== undefined) requireProgram(argv[0]);
    return ['ip', 'netns', 'exec', this.netns, ...argv];
  }

  #openSockets(): NamespaceSockets {
    this.#sockets ??= new NamespaceSockets({ netnsPath: this.netnsPath });
    return this.#sockets;
  }
}

/** A workload: a node with an identity in the mesh. */
export class LabWorkload extends LabNode {
  readonly spec: WorkloadSpec;
  /** Name of its host. */
  readonly host: string;

  constructor(init: { machine: PlannedMachine; spec: WorkloadSpec; host: string }) {
    super(init);
    this.spec = init.spec;
    this.host = init.host;
  }

  /** `namespace/name`, as in the mesh's records. */
  get meshName(): string {
    return `${this.spec.namespace}/${this.spec.name}`;
  }
}
