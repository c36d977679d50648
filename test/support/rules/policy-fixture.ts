import { parseIp, type IpAddress } from '../../../shared/address.js';
import { formatSpiffeId } from '../../../shared/identity.js';
import type { Connection, Party, PartyWorkload } from '../../../shared/policy/connection.js';
import {
  plainRule,
  plainSnapshot,
  type CompiledAuthorizationPolicy,
  type CompiledRule,
  type MeshSettings,
  type Snapshot,
} from '../../../shared/policy/snapshot.js';

/** Snapshots and connections for the tests of the evaluator. */
export const trustDomain = 'mesh.test';
export const clock = { nowMs: () => 0 };

export function snapshotOf(init: {
  readonly rules?: readonly Partial<CompiledRule>[];
  readonly policies?: readonly Partial<CompiledAuthorizationPolicy>[];
  readonly mesh?: Partial<MeshSettings>;
  readonly rest?: Partial<Snapshot>;
}): Snapshot {
  return {
    revision: 1,
    createdAt: '2026-01-01T00:00:00Z',
    createdBy: 'test',
    trustDomain,
    mesh: {
      defaultAction: 'deny',
      outbound: init.mesh?.defaultAction ?? 'deny',
      mtls: 'PERMISSIVE',
      rootNamespace: 'root',
      ...init.mesh,
    },
    rules: (init.rules ?? []).map((rule, index) => ({
      name: `r${index}`,
      tier: 'team',
      priority: index,
      action: 'allow',
      mode: 'enforce',
      from: [],
      to: [],
      ports: [],
      ...plainRule,
      ...rule,
    })),
    authorizationPolicies: (init.policies ?? []).map((policy, index) => ({
      namespace: 'billing',
      name: `p${index}`,
      action: 'ALLOW',
      selector: {},
      rules: [],
      ...policy,
    })),
    ...plainSnapshot,
    ...init.rest,
  };
}

export function workload(name: string, init: Partial<PartyWorkload> = {}): PartyWorkload {
  const [namespace = '', short = ''] = name.split('/');
  return { namespace, name: short, serviceAccount: short, labels: { app: short }, node: 'host-a', ...init };
}

/** A workload that proved (or is registered with) its identity. */
export function meshed(name: string, address: string, init: Partial<PartyWorkload> = {}): Party {
  const { namespace, serviceAccount, ...rest } = workload(name, init);
  const identity = formatSpiffeId({ trustDomain, namespace, serviceAccount });
  return { ip: ip(address), identity, workload: { namespace, serviceAccount, ...rest } };
}

export function external(address: string): Party {
  return { ip: ip(address), identity: null, workload: null };
}

export function ip(text: string): IpAddress {
  const parsed = parseIp(text);
  if (parsed === undefined) throw new Error(`${text} is no address`);
  return parsed;
}

export const api = meshed('billing/api', '198.18.0.1');
export const db = meshed('billing/db', '198.18.0.2', { node: 'host-b' });
export const web = meshed('shop/web', '198.18.1.1');

export function connection(init: Partial<Connection> = {}): Connection {
  return { source: api, destination: db, port: 5432, ...init };
}
