import { parseIp, type IpAddress } from '../address.js';
import { CulvertError } from '../errors.js';
import { parseNodeName, workloadName, type NodeName, type WorkloadName } from '../routing/names.js';

/** What the payload of an entry says of itself, as far as it can be read. */
export type EntryClaims = {
  /** Addresses of a workload or VIPs of a service, canonical. */
  readonly addresses: readonly IpAddress[];
  /** The workload whose traffic an agent has to capture; null: there is none. */
  readonly toCapture: UnreadableWorkload | null;
};

/** A workload of which nothing else can be read. */
export type UnreadableWorkload = {
  readonly name: WorkloadName;
  readonly node: NodeName;
  /** As in the entry; empty: it has one in a form that cannot be read. */
  readonly netns: string;
  readonly addresses: readonly IpAddress[];
};

/**
 * The controller wrote the entry, and this version of Culvert cannot read it as a whole. Its addresses must
 * not be taken for addresses outside the mesh, and its traffic must not pass uncaptured, so what can be read is here.
 */
export class UnreadableEntryError extends CulvertError {
  readonly sequence: number;
  readonly claims: EntryClaims;

  constructor(init: { readonly cause: CulvertError; readonly sequence: number; readonly claims: EntryClaims }) {
    const { code, message, hint } = init.cause;
    super({ code, message, ...(hint === undefined ? {} : { hint }), cause: init.cause });
    this.sequence = init.sequence;
    this.claims = init.claims;
  }
}

/** What the payload of an entry claims; null: it is no entry that belongs at this key. */
export function claimsOf(key: string, payload: Uint8Array): EntryClaims | null {
  const value = parsedObject(payload);
  if (value === null || `${String(value['kind'])}.${String(value['namespace'])}.${String(value['name'])}` !== key) {
    return null;
  }
  const texts = [value['addresses'], value['vips']].flatMap((list): unknown[] => (Array.isArray(list) ? list : []));
  const addresses = texts.flatMap((text) => (typeof text === 'string' ? (parseIp(text) ?? []) : []));
  return { addresses, toCapture: workloadToCapture(value, addresses) };
}

/** In doubt it is captured: `tcp` is the only protocol that says that it is not. */
function workloadToCapture(
  value: Readonly<Record<string, unknown>>,
  addresses: readonly IpAddress[],
): UnreadableWorkload | null {
  const { kind, namespace, name, node, netns = null, protocol } = value;
  const nodeName = typeof node === 'string' ? parseNodeName(node) : undefined;
  if (kind !== 'workload' || nodeName === undefined || netns === null || protocol === 'tcp') return null;
  return {
    name: workloadName({ namespace: String(namespace), name: String(name) }),
    node: nodeName,
    netns: typeof netns === 'string' ? netns : '',
    addresses,
  };
}

function parsedObject(payload: Uint8Array): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(payload));
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}
