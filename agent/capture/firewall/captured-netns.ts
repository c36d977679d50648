import type { IpAddress } from '../../../shared/address.js';
import type { CaptureExclusions } from '../../../shared/routing/registry-entry.js';
import type { WorkloadName } from '../../../shared/routing/names.js';

/** A workload of this host whose TCP the agent takes over. */
export type CapturedNetns = {
  /** The key of everything here. */
  readonly name: WorkloadName;
  /** Absolute path of its network namespace. */
  readonly netnsPath: string;
  /** Its addresses: connections that a socket of the host itself opens to them (probes) are let through unruled. */
  readonly addresses: readonly IpAddress[];
  readonly exclusions: CaptureExclusions;
};

/** Whether IPv6 can leave the namespace: `disabled` by its sysctl (rules are loaded all the same), `absent` in the kernel. */
export type Ipv6Support = 'on' | 'disabled' | 'absent';

/**
 * `captured`: rules in place. `failed`: see `problem`; tried again at each check. `draining`: released, new connections
 * go their own way, and what keeps the open ones alive goes when they end. `gone`: the namespace no longer exists.
 */
export type CaptureState = 'captured' | 'failed' | 'draining' | 'gone';

export type CaptureStatus = {
  readonly name: string;
  readonly netnsPath: string;
  readonly netnsInode: number;
  readonly state: CaptureState;
  readonly ipv6: Ipv6Support;
  /** Milliseconds since the epoch; null before the first one. */
  readonly lastCheckAtMs: number | null;
  /** How often rules that somebody changed were put back. */
  readonly repairs: number;
  /** What is wrong, with what to do; null: nothing. */
  readonly problem: string | null;
};

/** `ok`: as it should be. `repaired`: it was not, and is now. `failed`: see the status. `gone`: no such namespace. */
export type CheckResult = 'ok' | 'repaired' | 'failed' | 'gone';

export type CaptureRepair = {
  /** The workload, or `host` for the host's own rules. */
  readonly name: string;
  /** What was found missing or changed, one clause each. */
  readonly found: readonly string[];
};
