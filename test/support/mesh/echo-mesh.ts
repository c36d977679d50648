import type { LabWorkload } from '../../lab/lab-node.js';
import { Mesh, type MeshOptions, startMesh } from '../../lab/mesh.js';
import type { LabServer } from '../../lab/namespace-sockets.js';
import { type EchoTarget, startEcho } from './echo-traffic.js';
import { twoHosts } from './two-hosts.js';

/** A complete, ready mesh of `twoHosts`, with an echo server at the client and one at the server. */
export class EchoMesh extends Mesh {
  readonly #atClient: LabServer;
  readonly #atServer: LabServer;

  private constructor(mesh: Mesh, echoes: { readonly atClient: LabServer; readonly atServer: LabServer }) {
    super(mesh);
    this.#atClient = echoes.atClient;
    this.#atServer = echoes.atServer;
  }

  static async start(options: Omit<MeshOptions, 'topology'> = {}): Promise<EchoMesh> {
    const mesh = await startMesh({ ...options, topology: twoHosts });
    try {
      const atClient = await startEcho(mesh.lab.workload('client'));
      const atServer = await startEcho(mesh.lab.workload('server'));
      return new EchoMesh(mesh, { atClient, atServer });
    } catch (error) {
      await mesh[Symbol.asyncDispose]();
      throw error;
    }
  }

  get client(): LabWorkload {
    return this.lab.workload('client');
  }

  get server(): LabWorkload {
    return this.lab.workload('server');
  }

  /** The echo server at the client. */
  get toClient(): EchoTarget {
    return { ip: this.client.ipv4, port: this.#atClient.port };
  }

  /** The echo server at the server. */
  get toServer(): EchoTarget {
    return { ip: this.server.ipv4, port: this.#atServer.port };
  }
}
