import path from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import type { SpiffeId } from '../../shared/identity.js';
import type { LabNode } from '../lab/lab-node.js';
import type { LabProcess } from '../lab/lab-process.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import type { LabTopology } from '../lab/topology.js';
import { waitUntil } from '../lab/wait-until.js';
import { reportOf } from '../support/mesh/attacker-report.js';
import { issuerOf, stolen, writeIdentity } from '../support/mesh/stolen-identity.js';
import { type Attack, attackedPorts } from './attack-table.js';
import { AttackedNeighbour, type NeighbourProtocol } from './attacked-neighbour.js';

const ports = { echo: 9000, discard: 9001, plainSink: 9002, tlsSink: 9003, keeping: 9004 } as const;
const workload = (name: string, excludeOutboundPorts: readonly number[] = []) => ({
  name,
  namespace: 'shop',
  serviceAccount: name,
  ...(excludeOutboundPorts.length === 0 ? {} : { capture: { excludeOutboundPorts } }),
});

/**
 * A client that asks a server of another host. On its host a hostile workload, which dials tunnel ports by itself, on the
 * server's a workload that is attacked. The two workloads of a host share the one data-plane thread of its agent. Outside of
 * the mesh a stranger, and a machine with servers that get the same load to compare.
 */
const topology: LabTopology = {
  hosts: [
    { name: 'node1', workloads: [workload('client'), workload('hostile', [attackedPorts.tunnel, ports.tlsSink])] },
    { name: 'node2', workloads: [workload('server'), workload('attacked')] },
  ],
  externalHosts: ['stranger', 'elsewhere'],
};

/** Where attackers are and what they attack. */
export class AttackLab implements AsyncDisposable {
  readonly mesh: Mesh;
  readonly #identity: string;

  private constructor(init: { readonly mesh: Mesh; readonly identity: string }) {
    this.mesh = init.mesh;
    this.#identity = init.identity;
  }

  static async start(): Promise<AttackLab> {
    const agentArgs = ['--workers', '1', '--health-address', `[::]:${attackedPorts.health}`];
    const mesh = await startMesh({ topology, agentArgs, agentOutput: 'file' });
    try {
      const { lab } = mesh;
      const identity = 'spiffe://culvert.local/ns/shop/sa/hostile' as SpiffeId;
      const certificates = await stolen(await issuerOf(mesh), identity);
      const directory = writeIdentity(path.join(lab.tempDir, 'hostile'), certificates);
      await Promise.all(
        [lab.workload('server'), lab.workload('attacked'), lab.workload('hostile'), lab.host('stranger')].map(makeRoom),
      );
      await Promise.all([
        listening(lab.workload('server'), 'peer-server', [String(ports.echo)]),
        listening(lab.workload('attacked'), 'sink', [String(ports.discard)]),
        listening(lab.workload('attacked'), 'sink', [String(ports.keeping), '', 'all']),
        listening(lab.host('elsewhere'), 'sink', [String(ports.keeping), '', 'all']),
        listening(lab.host('elsewhere'), 'sink', [String(ports.plainSink)]),
        listening(lab.host('elsewhere'), 'sink', [String(ports.tlsSink), directory]),
      ]);
      return new AttackLab({ mesh, identity: directory });
    } catch (error) {
      await mesh[Symbol.asyncDispose]();
      throw error;
    }
  }

  async neighbour(protocol: NeighbourProtocol): Promise<AttackedNeighbour> {
    const { lab, controller } = this.mesh;
    const where = {
      echo: { at: lab.workload('client'), server: { ip: lab.workload('server').ipv4, port: ports.echo } },
      http: { at: lab.host('node1'), server: { ip: lab.host('node2').ipv4, port: attackedPorts.health } },
      https: { at: lab.host('node1'), server: { ip: controller.node.ipv4, port: attackedPorts.api } },
    }[protocol];
    return await AttackedNeighbour.start({ protocol, ...where, warmUp: 400 });
  }

  /** Begins an attack, or the same load on something that is not Culvert. Resolves when all of it is under way. */
  async begin(attack: Attack, on: 'culvert' | 'something else'): Promise<LabProcess> {
    const { lab } = this.mesh;
    const from =
      attack.from === 'stranger' || (on !== 'culvert' && isCaptured(attack))
        ? lab.host('stranger')
        : lab.workload('hostile');
    const target = on === 'culvert' ? this.#target(attack) : this.#sink(attack);
    const file = fileURLToPath(new URL('load/attacker.js', import.meta.url));
    const argv = [
      attack.kind,
      target.ip,
      target.port,
      attack.count,
      attack.certificate === 'own' ? this.#identity : '',
    ];
    const env = { TARGET_PORT: String(ports.discard), WITHOUT_WINDOWS: on === 'culvert' ? '0' : '1' };
    const opened = await this.#opened();
    const attacker = await from.spawn([...unprivileged, process.execPath, file, ...argv.map(String)], { env });
    await attacker.waitForLine(/^started$/, 60_000);
    // The kernel opens them before the agent does.
    if (on === 'culvert' && isCaptured(attack)) {
      await waitUntil(
        'the captured connections are open',
        async () => ((await this.#opened()) >= opened + attack.count ? true : undefined),
        60_000,
      );
    }
    // The attacker is of the lowest priority: on a busy machine a neighbour meets all it has to before the first one is ended.
    if (on === 'culvert' && attack.kind === 'silent' && attack.to === 'tunnel port') {
      await waitUntil(
        'a silent connection was ended',
        () => (reportOf(attacker).connections > 0 ? true : undefined),
        60_000,
      );
    }
    return attacker;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.mesh[Symbol.asyncDispose]();
  }

  #opened(): Promise<number> {
    return this.mesh.agent('node1').metric('culvert_connections_opened_total');
  }

  #target({ to }: Attack): { readonly ip: string; readonly port: number } {
    const { lab, controller } = this.mesh;
    const attacked = lab.workload('attacked').ipv4;
    switch (to) {
      case 'tunnel port':
        return { ip: attacked, port: attackedPorts.tunnel };
      case 'captured port':
        return { ip: attacked, port: ports.keeping };
      case 'closing port':
        return { ip: attacked, port: ports.discard };
      case 'health':
        return { ip: lab.host('node2').ipv4, port: attackedPorts.health };
      case 'API':
        return { ip: controller.node.ipv4, port: attackedPorts.api };
    }
  }

  #sink({ kind, to }: Attack): { readonly ip: string; readonly port: number } {
    const { ipv4: ip } = this.mesh.lab.host('elsewhere');
    if (to === 'captured port') return { ip, port: ports.keeping };
    return {
      ip,
      port: kind === 'silent' || kind === 'spoken' ? ports.plainSink : ports.tlsSink,
    };
  }
}

function isCaptured({ to }: Attack): boolean {
  return to === 'captured port' || to === 'closing port';
}

const unprivileged = [
  'setpriv',
  '--reuid=65534',
  '--regid=65534',
  '--clear-groups',
  '--bounding-set=-all',
  '--inh-caps=-all',
];

async function listening(at: LabNode, program: 'peer-server' | 'sink', args: readonly string[]): Promise<void> {
  const file = fileURLToPath(new URL(`load/${program}.js`, import.meta.url));
  const started = await at.spawn([process.execPath, file, ...args]);
  await started.waitForLine(/^listening/);
}

/** Ports and queues for thousands of connections that come and go. */
async function makeRoom(node: LabNode): Promise<void> {
  const settings = ['net.core.somaxconn=4096', 'net.ipv4.tcp_max_syn_backlog=8192', 'net.ipv4.tcp_tw_reuse=1'];
  await node.check(['sysctl', '-qw', ...settings, 'net.ipv4.ip_local_port_range=16384 65535']);
}
