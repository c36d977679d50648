import type { IpAddress } from '../../../shared/address.js';
import type { WorkloadName } from '../../../shared/routing/names.js';
import { missingAddresses } from '../../capture/namespace-addresses.js';
import type { WorkloadStatus } from './workload-status.js';

/** How long what was found counts, and how long a problem does: an address may come a moment after its namespace. */
const foundForMs = 30_000;
const problemForMs = 1000;
/** Looks cost some system calls each, and a host may have thousands of workloads. */
const maxLooks = 32;

type Look = { readonly key: string; readonly atMs: number; readonly problem: string | null };

/**
 * Whether the namespaces of captured workloads have the addresses that are registered for them. Without, connections from
 * there are refused (`NOT_OWN_ADDRESS`), and nothing is at the address that others dial.
 */
export class RegisteredAddresses {
  readonly #elapsedMs: () => number;
  readonly #look: typeof missingAddresses;
  #looks = new Map<WorkloadName, Look>();

  /** `look`: for tests. */
  constructor(init: { readonly elapsedMs: () => number; readonly look?: typeof missingAddresses }) {
    this.#elapsedMs = init.elapsedMs;
    this.#look = init.look ?? missingAddresses;
  }

  /** The same, each with its problem. */
  judged(workloads: readonly WorkloadStatus[]): (WorkloadStatus & { readonly addressProblem: string | null })[] {
    const problems = this.problems(workloads);
    return workloads.map((status) => ({ ...status, addressProblem: problems.get(status.name) ?? null }));
  }

  /** One sentence for each workload that lacks an address. Looks again at some of them at each call, the longest ago first. */
  problems(
    workloads: readonly Pick<WorkloadStatus, 'name' | 'netnsPath' | 'addresses' | 'captured'>[],
  ): ReadonlyMap<WorkloadName, string> {
    const nowMs = this.#elapsedMs();
    const asked = workloads.flatMap(({ name, netnsPath, addresses, captured }) => {
      if (!captured || netnsPath === null) return [];
      const key = JSON.stringify([netnsPath, addresses]);
      const known = this.#looks.get(name);
      return [{ name, netnsPath, addresses, key, known: known?.key === key ? known : undefined }];
    });
    const due = asked
      .filter(({ known }) => known === undefined || nowMs - known.atMs >= lifeOf(known))
      .sort((a, b) => (a.known?.atMs ?? Number.NEGATIVE_INFINITY) - (b.known?.atMs ?? Number.NEGATIVE_INFINITY));
    const looks = new Map<WorkloadName, Look>();
    for (const { name, known } of asked) if (known !== undefined) looks.set(name, known);
    for (const { name, netnsPath, addresses, key } of due.slice(0, maxLooks)) {
      const missing = this.#look(netnsPath, addresses);
      looks.set(name, { key, atMs: nowMs, problem: problemText(missing) });
    }
    this.#looks = looks;
    return new Map([...looks].flatMap(([name, { problem }]) => (problem === null ? [] : [[name, problem] as const])));
  }
}

function lifeOf({ problem }: Look): number {
  return problem === null ? foundForMs : problemForMs;
}

function problemText(missing: readonly IpAddress[]): string | null {
  if (missing.length === 0) return null;
  const which = missing.length === 1 ? 'the registered address' : 'the registered addresses';
  return `its namespace does not have ${which} ${missing.join(', ')}: connections from other addresses are refused (NOT_OWN_ADDRESS)`;
}
