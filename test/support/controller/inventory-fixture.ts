import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { Inventory } from '../../../controller/inventory/inventory.js';
import type { SourceEntry } from '../../../controller/inventory/inventory-source.js';
import type { StoredResource } from '../../../controller/inventory/stored-resource.js';
import type { IpAddress } from '../../../shared/address.js';
import { formatSpiffeId } from '../../../shared/identity.js';
import type { RegistryEntry, RegistryService, WorkloadEntry } from '../../../shared/routing/registry-entry.js';

export const trustDomain = 'culvert.local';
const log = pino({ level: 'silent' });

export function workloadEntry(name: string, o: Partial<WorkloadEntry> & { readonly ip?: string } = {}): WorkloadEntry {
  const { ip = '198.18.0.1', ...fields } = o;
  const serviceAccount = fields.serviceAccount ?? name;
  return {
    kind: 'workload',
    namespace: 'shop',
    name,
    serviceAccount,
    identity: formatSpiffeId({ trustDomain, namespace: 'shop', serviceAccount }),
    labels: {},
    addresses: [ip as IpAddress],
    node: null,
    netns: null,
    protocol: fields.node === undefined || fields.netns === undefined ? 'tcp' : 'hbone',
    capture: { excludeInboundPorts: [], excludeOutboundPorts: [], excludeOutboundCidrs: [] },
    ...fields,
  };
}

export function serviceEntry(
  name: string,
  vip: string,
  selector: Readonly<Record<string, string>> = {},
): RegistryService {
  const ports = [{ port: 80, targetPort: 80 }];
  return { kind: 'service', namespace: 'shop', name, vips: [vip as IpAddress], ports, selector };
}

/** As a source that makes entries itself gives it. */
export function found(entry: RegistryEntry): SourceEntry {
  return { entry, document: null };
}

export function workloadDocument(name: string, o: { readonly ip: string; readonly revision?: number }): StoredResource {
  return {
    key: `Workload.shop.${name}`,
    resource: {
      apiVersion: 'culvert.dev/v1',
      kind: 'Workload',
      metadata: { namespace: 'shop', name },
      spec: { serviceAccount: name, addresses: [o.ip as IpAddress] },
    },
    revision: o.revision ?? 2,
    appliedAt: '2026-01-01T00:00:00.000Z',
    appliedBy: 'test',
  };
}

/** A directory with an `inventory.log` that may be opened again and again. */
export async function inventoryDirectory() {
  const directory = await mkdtemp(path.join(tmpdir(), 'culvert-inventory-'));
  const file = path.join(directory, 'inventory.log');
  return {
    file,
    /** `isNew`: adopts nothing, as the first start does. */
    open: async (o: { readonly isNew?: boolean } = {}) => {
      const inventory = await Inventory.open({ path: file, log, nowMs: () => 42, trustDomain });
      if (o.isNew === true) await inventory.exclusively((turn) => turn.adopt([], { sequence: 1, revision: 0 }));
      return Object.assign(inventory, { [Symbol.asyncDispose]: () => inventory.close() });
    },
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}

/** What is published, as `key@sequence addresses`. */
export function publishedOf({ registry }: Inventory): string[] {
  return [...registry.published]
    .map(([key, { entry, sequence }]) => {
      const addresses = entry.kind === 'service' ? entry.vips : entry.addresses;
      return `${key}@${sequence} ${addresses.join(',')}`;
    })
    .sort();
}
