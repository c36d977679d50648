import { parseIp, type IpAddress } from '../address.js';
import { CulvertError } from '../errors.js';

/**
 * The controller wrote the entry, and this version of Culvert cannot read it as a whole. Its addresses must
 * not be taken for addresses outside the mesh, so what can be read of them is here.
 */
export class UnreadableEntryError extends CulvertError {
  readonly sequence: number;
  /** Addresses of a workload or VIPs of a service, canonical. */
  readonly addresses: readonly IpAddress[];

  constructor(init: {
    readonly cause: CulvertError;
    readonly sequence: number;
    readonly addresses: readonly IpAddress[];
  }) {
    const { code, message, hint } = init.cause;
    super({ code, message, ...(hint === undefined ? {} : { hint }), cause: init.cause });
    this.sequence = init.sequence;
    this.addresses = init.addresses;
  }
}

/** What the payload of an entry says of its addresses; null: it is no entry that belongs at this key. */
export function addressesClaimed(key: string, payload: Uint8Array): readonly IpAddress[] | null {
  const value = parsedObject(payload);
  if (value === null || `${String(value['kind'])}.${String(value['namespace'])}.${String(value['name'])}` !== key) {
    return null;
  }
  const texts = [value['addresses'], value['vips']].flatMap((list): unknown[] => (Array.isArray(list) ? list : []));
  return texts.flatMap((text) => (typeof text === 'string' ? (parseIp(text) ?? []) : []));
}

function parsedObject(payload: Uint8Array): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(payload));
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}
