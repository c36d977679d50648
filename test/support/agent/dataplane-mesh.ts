import { Worker } from 'node:worker_threads';
import { defaultCaptureSettings } from '../../../agent/capture/capture-settings.js';
import { CommandRunner } from '../../../agent/capture/firewall/command-runner.js';
import { NamespaceCapture, noExclusions } from '../../../agent/capture/namespace-capture.js';
import { detectBackend } from '../../../agent/capture/firewall/netfilter-backend.js';
import type { CertificatesMessage, IdentityCertificate, LocalWorkload } from '../../../agent/dataplane/messages.js';
import type { DataplaneSettings } from '../../../agent/dataplane/settings.js';
import { WorkerPool } from '../../../agent/dataplane/pool/worker-pool.js';
import { netnsInode } from '../../../agent/native/netns.js';
import type { ClosedConnection } from '../../../agent/dataplane/report/closed-connection.js';
import { formatSpiffeId, type SpiffeId } from '../../../shared/identity.js';
import {
  createIssuingCa,
  createRootCa,
  type CertificateAuthority,
} from '../../../controller/ca/x509/certificate-authority.js';
import { createCsr } from '../../../shared/pki/certificate-request.js';
import { issueWorkloadCertificate } from '../../../controller/ca/x509/mesh-certificates.js';
import { plainSnapshot, type Snapshot } from '../../../shared/policy/snapshot.js';
import { lateAcceptPortsOf as lateAcceptPortsOfSpec } from '../../../controller/resources/kinds/workload.js';
import { lateAcceptPortsOf } from '../../../shared/routing/late-accept.js';
import type { RegistryEntry, WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import { createLab, type Lab } from '../../lab/lab.js';
import type { LabWorkload } from '../../lab/lab-node.js';
import { dataPlaneThread } from '../../lab/programs.js';
import type { LabTopology } from '../../lab/topology.js';
import { waitUntil } from '../../lab/wait-until.js';
import { nodeNamed, workloadNamed } from '../routing/names.js';

export const trustDomain = 'culvert.test';

export const testSettings: DataplaneSettings = {
  connectTimeoutMs: 5000,
  tlsHandshakeTimeoutMs: 5000,
  connectRetries: 2,
  idleTimeoutMs: 0,
  maxConnectionDurationMs: 0,
  halfCloseTimeoutMs: 0,
  maxConnectionsPerWorkload: 100,
  maxConnectionsPerPeer: 100,
  maxWaitingBytesPerWorkload: 1024 ** 3,
  maxWaitingBytes: 4 * 1024 ** 3,
  streamWindowBytes: 4_194_304,
  tunnelWindowBytes: 16_777_216,
  maxStreamsPerTunnel: 100,
  tunnelPingIntervalMs: 10_000,
  tunnelPingTimeoutMs: 20_000,
  tunnelIdleTimeoutMs: 300_000,
  http2Engine: 'node',
  listenBacklog: 128,
};

const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

export function allowAll(init: Partial<Snapshot> = {}): Snapshot {
  return {
    revision: 1,
    createdAt: '2026-01-01T00:00:00Z',
    createdBy: 'test',
    trustDomain,
    mesh: { defaultAction: 'allow', outbound: 'allow', mtls: 'STRICT', rootNamespace: 'culvert-system' },
    rules: [],
    authorizationPolicies: [],
    ...plainSnapshot,
    ...init,
  };
}

/** The data planes of a lab's hosts: one worker pool each, real capture, no control thread. */
export class DataplaneMesh implements AsyncDisposable {
  readonly lab: Lab;
  readonly entries = new Map<string, RegistryEntry>();
  readonly #topology: LabTopology;
  readonly #pools = new Map<string, WorkerPool>();
  readonly #closed = new Map<string, ClosedConnection[]>();
  readonly #threads = new Map<string, Worker>();
  readonly #issuer: CertificateAuthority;
  readonly #settings: DataplaneSettings;
  readonly #sharesSockets: () => boolean;

  private constructor(init: {
    lab: Lab;
    topology: LabTopology;
    issuer: CertificateAuthority;
    settings: DataplaneSettings;
    sharesSockets: () => boolean;
  }) {
    this.lab = init.lab;
    this.#topology = init.topology;
    this.#issuer = init.issuer;
    this.#settings = init.settings;
    this.#sharesSockets = init.sharesSockets;
  }

  static async start(
    topology: LabTopology,
    init: {
      settings?: Partial<DataplaneSettings>;
      workers?: number;
      snapshot?: Snapshot | null;
      /** Default: never. */
      sharesSockets?: () => boolean;
      /** The cgroup in which this process is, which capture exempts; default: its sockets are known by their mark alone. */
      ownCgroup?: string | null;
    } = {},
  ): Promise<DataplaneMesh> {
    const root = await createRootCa({ trustDomain });
    const issuer = await createIssuingCa({ root, trustDomain });
    const lab = await createLab(topology);
    const settings = { ...testSettings, ...init.settings };
    const { sharesSockets = () => false } = init;
    const mesh = new DataplaneMesh({ lab, topology, issuer, settings, sharesSockets });
    try {
      mesh.#fillRegistry();
      for (const host of topology.hosts) await mesh.#startHost(host.name, init.workers ?? 1);
      mesh.sendRegistry([...mesh.entries.values()], true);
      const snapshot = init.snapshot === undefined ? allowAll() : init.snapshot;
      if (snapshot !== null) await mesh.apply(snapshot);
      await mesh.#capture(init.ownCgroup ?? null);
      return mesh;
    } catch (error) {
      await mesh[Symbol.asyncDispose]();
      throw error;
    }
  }

  pool(host: string): WorkerPool {
    const pool = this.#pools.get(host);
    if (pool === undefined) throw new Error(`no pool of ${host}`);
    return pool;
  }

  /** Throws an uncaught exception in one thread of a host, like a bug in the data plane. */
  crashWorker(host: string, workerIndex: number): void {
    this.#threads.get(`${host}#${workerIndex}`)?.postMessage({ type: 'rules', snapshot: null }, []);
  }

  workload(name: string): LabWorkload {
    return this.lab.workload(name);
  }

  entry(name: string): WorkloadEntry {
    const entry = this.entries.get(`workload.${this.workload(name).meshName.replace('/', '.')}`);
    if (entry?.kind !== 'workload') throw new Error(`no workload ${name}`);
    return entry;
  }

  sendRegistry(upserts: readonly RegistryEntry[], isFull = false, removals: readonly string[] = []): void {
    for (const pool of this.#pools.values()) pool.send({ type: 'registry', isFull, upserts, removals });
  }

  /** Resolves when every worker of every host enforces it. */
  async apply(snapshot: Snapshot): Promise<void> {
    for (const pool of this.#pools.values()) pool.send({ type: 'rules', snapshot });
    for (const [host, pool] of this.#pools) {
      await waitUntil(`revision ${snapshot.revision} at ${host}`, () =>
        pool.enforcedRevision === snapshot.revision ? true : undefined,
      );
    }
  }

  localWorkloads(host: string): LocalWorkload[] {
    return this.lab.workloads
      .filter((workload) => workload.host === host && workload.spec.isMeshed !== false)
      .map(({ meshName, netnsPath }) => ({
        name: workloadNamed(meshName),
        netnsPath,
        netnsInode: netnsInode(netnsPath) ?? 0,
        hasRules: true as const,
        ...(this.#latePorts().length === 0 ? {} : { acceptsLate: true as const }),
      }));
  }

  #latePorts(): readonly number[] {
    return [...new Set([...this.entries.values()].flatMap(lateAcceptPortsOf))].sort((a, b) => a - b);
  }

  /** Waits for a record of a host and takes it out of the list. */
  async closed(host: string, matches: (record: ClosedConnection) => boolean): Promise<ClosedConnection> {
    const records = this.#closed.get(host) ?? [];
    return await waitUntil(
      `a record at ${host}; there are ${records.map((r) => `${r.direction} ${r.reason} ${r.detail}`).join('; ')}`,
      () => {
        const at = records.findIndex(matches);
        return at < 0 ? undefined : records.splice(at, 1)[0];
      },
      5000,
    );
  }

  /** Records that were not consumed yet. */
  unclaimed(host: string): readonly ClosedConnection[] {
    return this.#closed.get(host) ?? [];
  }

  takeUnclaimed(host: string): ClosedConnection[] {
    return this.#closed.get(host)?.splice(0) ?? [];
  }

  /** What the host's agent would hold: a certificate for each identity of its workloads. */
  async certificates(host: string, options: { except?: SpiffeId } = {}): Promise<CertificatesMessage> {
    const identities = new Set(
      this.localWorkloads(host)
        .map(({ name }) => this.entry(name).identity)
        .filter((id) => id !== options.except),
    );
    const certificates = await Promise.all([...identities].map((identity) => this.#certificate(identity)));
    return { type: 'certificates', rootsPem: this.#issuer.rootPem, certificates };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#pools.values()].map((pool) => pool.drain(0)));
    await this.lab.close();
  }

  async #certificate(identity: SpiffeId): Promise<IdentityCertificate> {
    const { csrPem, privateKeyPem } = await createCsr({ identity });
    const issued = await issueWorkloadCertificate({ issuer: this.#issuer, csrPem, identity, ttlMs: 3_600_000 });
    return { identity, chainPem: issued.chainPem, keyPem: privateKeyPem, notAfterMs: issued.notAfterMs };
  }

  #fillRegistry(): void {
    for (const workload of this.lab.workloads) {
      const { spec, meshName, host } = workload;
      const isMeshed = spec.isMeshed !== false;
      this.entries.set(`workload.${meshName.replace('/', '.')}`, {
        kind: 'workload',
        namespace: spec.namespace,
        name: spec.name,
        serviceAccount: spec.serviceAccount,
        identity: formatSpiffeId({ trustDomain, namespace: spec.namespace, serviceAccount: spec.serviceAccount }),
        labels: spec.labels ?? {},
        addresses: [workload.ipv4, workload.ipv6],
        node: isMeshed ? nodeNamed(host) : null,
        netns: isMeshed ? workload.netnsPath : null,
        protocol: isMeshed ? 'hbone' : 'tcp',
        capture: noExclusions,
        ...lateAcceptPortsOfSpec(spec),
      });
    }
    for (const { name, namespace, ports, selector } of this.#topology.services ?? []) {
      const { ipv4, ipv6 } = this.lab.vip(`${namespace}/${name}`);
      this.entries.set(`service.${namespace}.${name}`, {
        kind: 'service',
        namespace,
        name,
        vips: [ipv4, ipv6],
        ports: ports.map(({ port, targetPort, earlyAccept }) => ({
          port,
          targetPort: targetPort ?? port,
          ...(earlyAccept === false ? { earlyAccept } : {}),
        })),
        selector,
      });
    }
  }

  async #startHost(host: string, workers: number): Promise<void> {
    const pool = new WorkerPool({
      workers,
      node: nodeNamed(host),
      trustDomain,
      settings: this.#settings,
      log: silent,
      sharesSockets: this.#sharesSockets,
      spawn: (init) => {
        // As a real agent has it: one file starts twice as fast as its modules.
        const worker = new Worker(dataPlaneThread, { workerData: init, trackUnmanagedFds: true });
        this.#threads.set(`${host}#${init.workerIndex}`, worker);
        return worker;
      },
    });
    this.#pools.set(host, pool);
    const closed: ClosedConnection[] = [];
    this.#closed.set(host, closed);
    pool.on('report', (report) => closed.push(...report.closed));
    await pool.start();
    pool.send(await this.certificates(host));
    const workloads = this.localWorkloads(host);
    pool.send({ type: 'workloads', workloads });
    for (const { name } of workloads) {
      const listening = await waitUntil(`listeners of ${name}`, () => pool.listeningOf(name) ?? undefined);
      if (listening.error !== null) throw new Error(listening.error);
    }
  }

  /** Below WorkloadCapture, because that one would load the host's rules too, and the host is this machine. */
  async #capture(ownCgroup: string | null): Promise<void> {
    const runner = new CommandRunner({ maxParallel: 2 });
    const backend = await detectBackend(runner);
    const meshed = this.lab.workloads.filter((workload) => workload.spec.isMeshed !== false);
    await Promise.all(
      meshed.map(async (lab) => {
        const workload = {
          name: workloadNamed(lab.meshName),
          netnsPath: lab.netnsPath,
          addresses: [lab.ipv4, lab.ipv6],
          exclusions: noExclusions,
          latePorts: this.#latePorts(),
        };
        const capture = new NamespaceCapture({
          runner,
          backend,
          settings: defaultCaptureSettings,
          log: silent,
          onRepair: () => {},
          workload,
          inode: netnsInode(lab.netnsPath) ?? 0,
          ownCgroup,
        });
        await capture.apply(workload);
        // Its rules stay; what it listens to would keep a namespace that a test deletes.
        await capture.stop();
      }),
    );
  }
}
