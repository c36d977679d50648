import type { HostPort } from '../../../shared/address.js';
import type { Reason } from '../../../shared/reasons.js';
import type { WorkloadName } from '../../../shared/routing/names.js';

type EjectedAt = {
  /** `shop/web:80`, or `subset v2 of shop/web:80`. */
  readonly destination: string;
  /** The DestinationRule that ejects it, `namespace/name`. */
  readonly rule: string;
  readonly workload: WorkloadName | null;
  readonly address: HostPort;
  /** Of the last connection that failed. */
  readonly reason: Reason;
  /** How often it was ejected, less what healthy time has taken back. */
  readonly count: number;
};

/** An endpoint that was ejected: what is logged and counted. Plain data, sent between threads. `forMs`: for how long. */
export type Ejection = EjectedAt & { readonly forMs: number };

/** An endpoint that is ejected now in one worker. `forMs`: for how long still. */
export type EjectedEndpoint = EjectedAt & {
  readonly state: 'ejected' | 'to be tried' | 'on trial';
  readonly forMs: number;
};
