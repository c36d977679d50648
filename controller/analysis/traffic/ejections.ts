import type { Heartbeat } from '../../../shared/wire/requests.js';

/** What agents tell: their last heartbeats. */
export type Agents = readonly { readonly node: string; readonly heartbeat: Pick<Heartbeat, 'ejected'> | null }[];

type Ejection = NonNullable<Heartbeat['ejected']>[number] & { readonly node: string };

/**
 * `rule`: whose `outlierDetection` it is. `forMs`: for how long still, when the agent said so. `threads`: of the agent, that have
 * ejected it.
 */
export type EjectedBy = Omit<Ejection, 'address' | 'workload'>;

/** Those that are meant, of what agents said last. */
export function ejectionsOf(agents: Agents, isMeant: (ejection: Ejection) => boolean): readonly Ejection[] {
  return agents.flatMap(({ node, heartbeat }) =>
    (heartbeat?.ejected ?? []).map((each) => ({ ...each, node })).filter(isMeant),
  );
}

/** Who has ejected an endpoint, which has this name and address. */
export function ejectedBy(
  ejections: readonly Ejection[],
  { workload, address }: { readonly workload: string | null; readonly address: string },
): readonly EjectedBy[] {
  return ejections
    .filter((each) => each.address === address && each.workload === workload)
    .map(({ address: _address, workload: _workload, ...rest }) => rest);
}
