import type { LabWorkload } from '../../test/lab/lab-node.js';
import type { CommandResult } from '../../test/lab/command.js';
import { startNginx, startRedis, startSshd, type SshApplication } from '../../test/lab/applications.js';
import { prepareMesh, type Mesh } from '../../test/lab/mesh.js';
import { defaultTopology } from '../../test/lab/topology.js';

/** The environment of all steps: the lab with its controller, and unmodified applications of the distribution. */
export class Stage implements AsyncDisposable {
  readonly mesh: Mesh;
  readonly ssh: SshApplication;

  private constructor(init: { mesh: Mesh; ssh: SshApplication }) {
    this.mesh = init.mesh;
    this.ssh = init.ssh;
  }

  /** Starts the controller and the applications, but no agent. */
  static async build(): Promise<Stage> {
    const mesh = await prepareMesh({ topology: defaultTopology, agentArgs: ['--workers', '1'] });
    try {
      const { lab } = mesh;
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

  async [Symbol.asyncDispose](): Promise<void> {
    await this.mesh[Symbol.asyncDispose]();
  }
}
