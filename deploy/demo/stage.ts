import type { LabWorkload } from '../../test/lab/lab-node.js';
import type { CommandResult } from '../../test/lab/command.js';
import { startNginx, startRedis, startSshd, type SshApplication } from '../../test/lab/applications.js';
import type { Narrator } from './narrator.js';
import { prepareMesh, type Mesh } from '../../test/lab/mesh.js';
import { patientMs } from '../../test/lab/patience.js';
import { defaultTopology, type LabTopology } from '../../test/lab/topology.js';

/** Which workloads also run the greeter of a later step, in which version. */
const greeters: Readonly<Record<string, string>> = { cache: 'v1', site: 'v1', api: 'v2' };

/** The default one, with a service whose workloads are of two versions. */
const topology: LabTopology = {
  ...defaultTopology,
  hosts: defaultTopology.hosts.map((host) => ({
    ...host,
    workloads: (host.workloads ?? []).map((workload) => {
      const greeter = greeters[workload.name];
      const labels = greeter === undefined ? {} : { greets: 'yes', greeter };
      return { ...workload, labels: { ...workload.labels, ...labels } };
    }),
  })),
  services: [
    ...(defaultTopology.services ?? []),
    { name: 'greeter', namespace: 'shop', ports: [{ port: 80, targetPort: 8080 }], selector: { greets: 'yes' } },
  ],
};

/** The environment of all steps: the lab with its controller, and unmodified applications of the distribution. */
export class Stage implements AsyncDisposable {
  readonly mesh: Mesh;
  readonly ssh: SshApplication;

  private constructor(init: { mesh: Mesh; ssh: SshApplication }) {
    this.mesh = init.mesh;
    this.ssh = init.ssh;
  }

  /** Starts the controller and the applications, but no agent. */
  static async build(narrator: Narrator): Promise<Stage> {
    narrator.doing('the controller starts nats-server and its store');
    const mesh = await prepareMesh({ topology, culvert: 'program', agentArgs: ['--workers', '1'] });
    try {
      const { lab } = mesh;
      narrator.doing('redis, nginx and sshd start');
      const [ssh] = await Promise.all([
        startSshd({ lab, at: lab.workload('bastion') }),
        startRedis({ lab, at: lab.workload('cache') }),
        startNginx({ lab, at: lab.workload('site'), page: 'hello from nginx, which knows nothing of the mesh\n' }),
      ]);
      return new Stage({ mesh, ssh });
    } catch (error) {
      await mesh.lab.close();
      throw error;
    }
  }

  workload(name: string): LabWorkload {
    return this.mesh.lab.workload(name);
  }

  /** Runs redis-cli in a workload, against the address of the redis workload itself. */
  redis(from: string, args: readonly string[]): Promise<CommandResult> {
    return this.workload(from).exec(['redis-cli', '-h', this.workload('cache').ipv4, ...args]);
  }

  /** Runs curl in a workload, against the address of the service www. */
  async readSite(from: string): Promise<CommandResult> {
    const seconds = String(Math.ceil(patientMs(10_000) / 1000));
    const url = `http://${this.mesh.lab.vip('www').ipv4}/`;
    return await this.workload(from).exec(['curl', '-sS', '--max-time', seconds, url], { timeoutMs: 60_000 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.mesh[Symbol.asyncDispose]();
  }
}
