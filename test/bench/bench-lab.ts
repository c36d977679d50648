import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createCsr } from '../../shared/pki/certificate-request.js';
import { parseCsr } from '../../controller/ca/x509/parsed-certificate-request.js';
import { createRootCa } from '../../controller/ca/x509/certificate-authority.js';
import { issueLeaf } from '../../controller/ca/x509/leaf-certificate.js';
import type { LabNode, LabWorkload } from '../lab/lab-node.js';
import { type Mesh, prepareMesh } from '../lab/mesh.js';
import { raiseDescriptorLimit, relayedConnections } from './descriptor-limit.js';
import { uncapturedPorts } from './bench-ports.js';

/** Certificate files that every pair of proxies uses, and the name in the certificates. */
export type BenchCertificates = {
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
  readonly certificateAndKey: string;
  readonly serverName: string;
};

/**
 * A mesh whose agents are not started yet, with the workload `client` on one host and `server` on the other. The other
 * proxies run in the same two workloads, on ports that the agents do not capture.
 */
export type BenchLab = AsyncDisposable & {
  readonly mesh: Mesh;
  readonly client: LabWorkload;
  readonly server: LabWorkload;
  readonly certificates: BenchCertificates;
  /** The limit of open descriptors in the lab, and how many connections a relay can carry with it. */
  readonly maxDescriptors: number;
  readonly maxRelayed: number;
  /** Creates a directory below the lab's own. */
  makeDirectory(name: string): string;
};

/** For 10,000 connections, twice in each relay. */
const wantedDescriptors = 65_536;

/**
 * `adapters`: how many pairs of proxies get ports. `isSameHost`: both workloads on one host, with one agent. The certificate
 * files live as long as the lab.
 */
export async function buildBenchLab(options: {
  readonly adapters: number;
  readonly isSameHost: boolean;
}): Promise<BenchLab> {
  const { adapters, isSameHost } = options;
  const maxDescriptors = Math.min(wantedDescriptors, await raiseDescriptorLimit(wantedDescriptors));
  const ports = uncapturedPorts(adapters);
  const workload = (name: string): { name: string; namespace: string; serviceAccount: string } => ({
    name,
    namespace: 'bench',
    serviceAccount: name,
  });
  const client = { ...workload('client'), capture: { excludeOutboundPorts: ports.outbound } };
  const server = { ...workload('server'), capture: { excludeInboundPorts: ports.inbound } };
  const topology = {
    hosts: isSameHost
      ? [{ name: 'node1', workloads: [client, server] }]
      : [
          { name: 'node1', workloads: [client] },
          { name: 'node2', workloads: [server] },
        ],
  };
  const mesh = await prepareMesh({ topology, agentOutput: 'file' });
  try {
    const nodes = { client: mesh.lab.workload('client'), server: mesh.lab.workload('server') };
    await Promise.all(Object.values(nodes).map(makeRoom));
    const makeDirectory = (name: string): string => mkdtempSync(path.join(mesh.lab.tempDir, `${name}-`));
    const certificates = await writeCertificates(path.join(mesh.lab.tempDir, 'relay-certificates'));
    const dispose = async (): Promise<void> => {
      await Promise.all(mesh.agents.map((agent) => agent.stop().catch(() => {})));
      await mesh.lab.close();
    };
    const limits = { maxDescriptors, maxRelayed: relayedConnections(maxDescriptors) };
    return { mesh, ...nodes, certificates, ...limits, makeDirectory, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await mesh.lab.close();
    throw error;
  }
}

/**
 * Kernel settings for the load, the same for every path: ports for tens of thousands of connections, which are reusable
 * without waiting a minute, here and in conntrack. Services listen below this range.
 */
async function makeRoom(node: LabNode): Promise<void> {
  const settings = {
    'ipv4/ip_local_port_range': '16384 65535',
    'ipv4/tcp_tw_reuse': '1',
    'core/somaxconn': '4096',
    'ipv4/tcp_max_syn_backlog': '8192',
  };
  const lines = Object.entries(settings).map(([key, value]) => `echo "${value}" > /proc/sys/net/${key}`);
  // These settings exist only once conntrack is in use, so a rule that matches nothing comes first.
  lines.push(
    'iptables -w 5 -t nat -A OUTPUT -p tcp -m conntrack --ctstate INVALID -j RETURN',
    'echo 2 > /proc/sys/net/netfilter/nf_conntrack_tcp_timeout_time_wait',
  );
  await node.check(['sh', '-e', '-c', lines.join('\n')]);
}

async function writeCertificates(directory: string): Promise<BenchCertificates> {
  const serverName = 'relay.bench.test';
  const issuer = await createRootCa({ trustDomain: 'bench.test' });
  const { csrPem, privateKeyPem } = await createCsr({ commonName: serverName });
  const { publicKey } = await parseCsr(csrPem);
  const { chainPem } = await issueLeaf({
    issuer,
    publicKey,
    names: [{ type: 'dns', value: serverName }],
    commonName: serverName,
    usages: ['server', 'client'],
    ttlMs: 24 * 3600 * 1000,
  });
  mkdirSync(directory, { mode: 0o700 });
  const write = (name: string, text: string): string => {
    const file = path.join(directory, name);
    writeFileSync(file, text, { mode: 0o600 });
    return file;
  };
  return {
    serverName,
    ca: write('ca.pem', issuer.rootPem),
    certificate: write('certificate.pem', chainPem),
    key: write('key.pem', privateKeyPem),
    certificateAndKey: write('certificate-and-key.pem', `${chainPem}${privateKeyPem}`),
  };
}
