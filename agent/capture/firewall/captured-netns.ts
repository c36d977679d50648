import type { IpAddress } from '../../../shared/address.js';
import type { CaptureExclusions } from '../../../shared/routing/registry-entry.js';
import type { WorkloadName } from '../../../shared/routing/names.js';

/** A workload on this host whose TCP connections the agent captures. */
export type CapturedNetns = {
  /** `namespace/name` of the workload: the key everywhere in capture. */
  readonly name: WorkloadName;
  /** Absolute path of its network namespace. */
  readonly netnsPath: string;
  /** Its addresses: what the host's probers open to them goes to the agent. */
  readonly addresses: readonly IpAddress[];
  readonly exclusions: CaptureExclusions;
  /** Ports of which some destination is accepted late, in ascending order; absent: none. Their queue must be open. */
  readonly latePorts?: readonly number[];
  /** It cannot be served yet: connections that begin wait. Absent: it is captured. */
  readonly isClosed?: true;
};

/** Whether IPv6 can leave the namespace: `disabled` by its sysctl (rules are still loaded), `absent` in the kernel. */
export type Ipv6Support = 'on' | 'disabled' | 'absent';

/**
 * `captured`: rules are in place; those of a workload that cannot be served yet let no connection begin. `failed`: see
 * `problem`; retried at each check. `draining`: released; new connections bypass the agent, and the rules for open ones are
 * removed when those end. `gone`: the namespace no longer exists.
 */
export type CaptureState = 'captured' | 'failed' | 'draining' | 'gone';

export type CaptureStatus = {
  readonly name: WorkloadName;
  readonly netnsPath: string;
  readonly netnsInode: number;
  readonly state: CaptureState;
  readonly ipv6: Ipv6Support;
  /** Milliseconds since the epoch; null before the first check. */
  readonly lastCheckAtMs: number | null;
  /** How often rules that were changed from outside were repaired. */
  readonly repairs: number;
  /** What is wrong and what to do about it; null: nothing. */
  readonly problem: string | null;
  /** Why other sockets on the agent's ports may get connections; null: they cannot. */
  readonly guardProblem: string | null;
  /** Why a process with CAP_NET_RAW can pass its sockets off as the agent's, which are not captured; null: it cannot. */
  readonly exemptionProblem: string | null;
};

/** `ok`: nothing to repair. `repaired`: something was. `failed`: see the status. `gone`: no such namespace. */
export type CheckResult = 'ok' | 'repaired' | 'failed' | 'gone';

export type CaptureRepair = {
  /** The workload, or `host` for the host's own rules. */
  readonly name: string;
  /** What was found missing or changed, one clause each. */
  readonly found: readonly string[];
};
