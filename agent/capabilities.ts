import { readFileSync } from 'node:fs';
import { CulvertError } from '../shared/errors.js';

/** By their bits in the masks of /proc/PID/status (capabilities(7)). */
const bits = { CHOWN: 0, DAC_OVERRIDE: 1, SETGID: 6, SETUID: 7, NET_ADMIN: 12, SYS_ADMIN: 21 } as const;

export type Capability = keyof typeof bits;

/** What the acts of an agent take, in whichever process they are done. */
export const actingCapabilities = ['NET_ADMIN', 'SYS_ADMIN'] as const satisfies readonly Capability[];

/** Those of these that this process does not have. */
export function missingCapabilities(
  wanted: readonly Capability[],
  status: () => string = () => readFileSync('/proc/self/status', 'utf8'),
): readonly Capability[] {
  const mask = BigInt(`0x${/^CapEff:\t([0-9a-f]+)$/m.exec(status())?.[1] ?? '0'}`);
  return wanted.filter((name) => ((mask >> BigInt(bits[name])) & 1n) === 0n);
}

/** Throws `CAPABILITY_MISSING` unless this process has all of these. `what`: what cannot be done without them. */
export function requireCapabilities(wanted: readonly Capability[], what: string): void {
  const missing = missingCapabilities(wanted);
  if (missing.length > 0) throw capabilityMissing(missing, what);
}

/** An agent of root that has less than root: what it lacks, and where to add that. */
export function capabilityMissing(missing: readonly Capability[], what: string, cause?: unknown): CulvertError {
  const names = missing.join(', ');
  const canDoWithout = !missing.some((name) => name === 'NET_ADMIN' || name === 'SYS_ADMIN');
  return new CulvertError({
    code: 'CAPABILITY_MISSING',
    message: `the agent was started as root without ${names}: ${what}`,
    hint:
      `add ${names} to securityContext.capabilities.add of the container, as culvert install prints it, or to the ` +
      `CapabilityBoundingSet of the unit${canDoWithout ? '; or start it with --privileges whole' : ''}`,
    ...(cause === undefined ? {} : { cause }),
  });
}
