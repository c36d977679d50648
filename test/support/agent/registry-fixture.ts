import { RegistryFollower } from '../../../agent/control/followers/registry-follower.js';
import type { RegistryMessage } from '../../../agent/dataplane/messages.js';
import { listedEntry, RegistryPages } from '../../../controller/inventory/registry-pages.js';
import type { IpAddress } from '../../../shared/address.js';
import { formatSpiffeId } from '../../../shared/identity.js';
import { createLog } from '../../../shared/log.js';
import { generateSigningKey, type SigningKey } from '../../../shared/pki/signing-key.js';
import { openRegistryRoot, registryRootKey, sealRegistryRoot } from '../../../shared/wire/registry-root.js';
import type { WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import { openProvenRegistryEntry, openRegistryEntry, sealRegistryEntry } from '../../../shared/wire/signed.js';
import { waitUntil } from '../../lab/wait-until.js';

export const controllerKey = generateSigningKey();
export const foreignKey = generateSigningKey();

/** Entries by key, sealed. */
export type Sealed = ReadonlyMap<string, Uint8Array>;
export type Listed = { readonly root: Uint8Array; readonly pages: Sealed };

export function workload(name: string, lastByte = 1): WorkloadEntry {
  return {
    kind: 'workload',
    namespace: 'shop',
    name,
    serviceAccount: 'sa',
    identity: formatSpiffeId({ trustDomain: 'mesh.test', namespace: 'shop', serviceAccount: 'sa' }),
    labels: {},
    addresses: [`198.18.10.${lastByte}` as IpAddress],
    node: null,
    netns: null,
    protocol: 'tcp',
    capture: { excludeInboundPorts: [], excludeOutboundPorts: [], excludeOutboundCidrs: [] },
  };
}

/** Of revision 5, where nothing else is said. */
export function seal(name: string, o: { lastByte?: number; key?: SigningKey; sequence?: number } = {}): Uint8Array {
  const { privateKey: privateKeyPem } = o.key ?? controllerKey;
  return sealRegistryEntry({ entry: workload(name, o.lastByte), sequence: o.sequence ?? 5, privateKeyPem });
}

/** As the controller lists these entries. */
export function listOf(entries: Sealed, o: { key?: SigningKey; sequence?: number } = {}): Listed {
  const tree = new RegistryPages();
  for (const [key, sealed] of entries) tree.put(listedEntry({ key, sequence: sequenceOf(sealed), sealed }));
  const { root, changed: pages } = tree.update(o.sequence ?? 5);
  const { privateKey: privateKeyPem } = o.key ?? controllerKey;
  return { root: sealRegistryRoot({ root, privateKeyPem }), pages };
}

function sequenceOf(sealed: Uint8Array): number {
  return (JSON.parse(Buffer.from(sealed).toString()) as { sequence: number }).sequence;
}

/** All keys and values of the bucket. */
export function bucketOf(entries: Sealed, { root, pages }: Listed): Map<string, Uint8Array> {
  return new Map([...entries, ...pages, [registryRootKey, root]]);
}

/** A follower, and how many signatures of entries it looked at. */
export function newFollower() {
  const publicKeysPem = [controllerKey.publicKey];
  const seen = { signatures: 0, alarms: 0, stale: 0, messages: [] as RegistryMessage[] };
  const follower = new RegistryFollower({
    open: (key, bytes) => {
      seen.signatures += 1;
      return openRegistryEntry({ key, bytes, publicKeysPem });
    },
    openProven: (key, bytes) => openProvenRegistryEntry({ key, bytes }),
    openRoot: (bytes) => openRegistryRoot({ bytes, publicKeysPem }),
    log: createLog({ name: 'test', level: 'error', stream: { write: () => undefined } }),
    onChange: (message) => seen.messages.push(message),
    onStale: () => (seen.stale += 1),
    onAlarm: () => (seen.alarms += 1),
  });
  return { follower, seen };
}

/** From disk, whole. */
export function restored(entries: Sealed, list: Listed) {
  const { follower, seen } = newFollower();
  const stored = [...bucketOf(entries, list)].map(([key, sealed]) => ({ key, sealed }));
  follower.restore({ entries: stored, isComplete: true });
  return { follower, seen };
}

export function put(follower: RegistryFollower, key: string, value: Uint8Array): void {
  follower.onEntry({ operation: 'put', key, value, revision: 1 });
}

export function putAll(follower: RegistryFollower, all: Iterable<readonly [string, Uint8Array]>): void {
  for (const [key, value] of all) put(follower, key, value);
}

export async function once(what: string, isSo: () => boolean): Promise<void> {
  await waitUntil(what, () => isSo() || undefined, 10_000);
}
