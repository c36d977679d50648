import { generateKeyPairSync, type KeyObject, randomBytes, webcrypto } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import 'reflect-metadata';
import * as x509 from '@peculiar/x509';
import { stringify } from 'yaml';
import { clusterAddresses, type ClusterPlan } from './cluster-plan.js';

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
/** A cluster lives for minutes. */
const validForMs = 7 * 86_400_000;

/** The subject of a certificate: a user and a group to the API server, and names and addresses to clients. */
type Subject = {
  readonly user: string;
  readonly group?: string;
  readonly dns?: readonly string[];
  readonly ips?: readonly string[];
};

/** Folder of the keys of a cluster. */
export function keysOf({ directory }: ClusterPlan): string {
  return path.join(directory, 'keys');
}

/** The credentials of the administrator, for kubectl. */
export function adminConfig(plan: ClusterPlan): string {
  return path.join(keysOf(plan), 'admin.kubeconfig');
}

/**
 * Makes a CA, a key for the tokens of service accounts (`sa.key`, `sa.pub`), and for each part of the control plane, each node
 * and the administrator a certificate, its key and a kubeconfig (`NAME.crt`, `NAME.key`, `NAME.kubeconfig`).
 */
export async function makeKeys(plan: ClusterPlan): Promise<void> {
  const directory = keysOf(plan);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const tokens = newKey();
  writeFileSync(path.join(directory, 'sa.key'), privatePem(tokens.privateKey));
  writeFileSync(path.join(directory, 'sa.pub'), tokens.publicKey.export({ type: 'spki', format: 'pem' }));
  const authority = await makeAuthority();
  writeFileSync(path.join(directory, 'ca.crt'), authority.certificate.toString('pem'));
  writeFileSync(path.join(directory, 'ca.key'), privatePem(authority.key));
  const server = `https://${plan.nodes[0]?.ipv4 ?? ''}:6443`;
  for (const [name, subject] of Object.entries(subjectsOf(plan))) {
    const { certificate, key } = await issue(authority, subject);
    writeFileSync(path.join(directory, `${name}.crt`), certificate);
    writeFileSync(path.join(directory, `${name}.key`), privatePem(key));
    writeFileSync(path.join(directory, `${name}.kubeconfig`), kubeconfig(directory, name, server));
  }
}

function subjectsOf({ nodes }: ClusterPlan): Record<string, Subject> {
  const service = [
    'kubernetes',
    'kubernetes.default',
    'kubernetes.default.svc',
    'kubernetes.default.svc.cluster.local',
  ];
  const own = [clusterAddresses.apiService, nodes[0]?.ipv4 ?? '', '127.0.0.1'];
  return {
    apiserver: { user: 'kube-apiserver', dns: service, ips: own },
    admin: { user: 'admin', group: 'system:masters' },
    'controller-manager': { user: 'system:kube-controller-manager' },
    scheduler: { user: 'system:kube-scheduler' },
    'kubelet-client': { user: 'kube-apiserver-kubelet-client', group: 'system:masters' },
    proxy: { user: 'system:kube-proxy' },
    ...Object.fromEntries(
      nodes.map(({ name, ipv4, ipv6 }) => [
        name,
        { user: `system:node:${name}`, group: 'system:nodes', dns: [name], ips: [ipv4, ipv6] },
      ]),
    ),
  };
}

function kubeconfig(directory: string, name: string, server: string): string {
  const file = (ending: string): string => path.join(directory, `${name}.${ending}`);
  const cluster = { server, 'certificate-authority': path.join(directory, 'ca.crt') };
  return stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'cluster', cluster }],
    users: [{ name: 'user', user: { 'client-certificate': file('crt'), 'client-key': file('key') } }],
    contexts: [{ name: 'context', context: { cluster: 'cluster', user: 'user' } }],
    'current-context': 'context',
  });
}

type Authority = {
  readonly certificate: x509.X509Certificate;
  readonly key: KeyObject;
  readonly signingKey: webcrypto.CryptoKey;
};

async function makeAuthority(): Promise<Authority> {
  const { privateKey, publicKey } = newKey();
  const keys = { privateKey: await imported(privateKey, 'sign'), publicKey: await imported(publicKey, 'verify') };
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    ...common(),
    keys,
    name: 'CN=cluster',
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate, key: privateKey, signingKey: keys.privateKey };
}

async function issue(
  authority: Authority,
  { user, group, dns = [], ips = [] }: Subject,
): Promise<{ readonly certificate: string; readonly key: KeyObject }> {
  const { privateKey, publicKey } = newKey();
  const names: x509.JsonGeneralName[] = [
    ...dns.map((value) => ({ type: 'dns' as const, value })),
    ...ips.map((value) => ({ type: 'ip' as const, value })),
  ];
  const certificate = await x509.X509CertificateGenerator.create({
    ...common(),
    publicKey: await imported(publicKey, 'verify'),
    signingKey: authority.signingKey,
    issuer: authority.certificate.subjectName,
    subject: [...(group === undefined ? [] : [{ O: [group] }]), { CN: [user] }],
    extensions: [
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth, x509.ExtendedKeyUsage.serverAuth]),
      ...(names.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(names)]),
      await x509.AuthorityKeyIdentifierExtension.create(authority.certificate.publicKey),
    ],
  });
  return { certificate: certificate.toString('pem'), key: privateKey };
}

function common() {
  return {
    serialNumber: randomBytes(16).toString('hex').replace(/^./, '1'),
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + validForMs),
    signingAlgorithm: algorithm,
  };
}

function newKey(): { readonly privateKey: KeyObject; readonly publicKey: KeyObject } {
  return generateKeyPairSync('ec', { namedCurve: algorithm.namedCurve });
}

function privatePem(key: KeyObject): string {
  return key.export({ type: 'sec1', format: 'pem' }) as string;
}

function imported(key: KeyObject, use: 'sign' | 'verify'): Promise<webcrypto.CryptoKey> {
  const isPrivate = key.type === 'private';
  const der = isPrivate ? key.export({ type: 'pkcs8', format: 'der' }) : key.export({ type: 'spki', format: 'der' });
  return webcrypto.subtle.importKey(isPrivate ? 'pkcs8' : 'spki', der, algorithm, true, [use]);
}
