import type { WorkloadName } from '../../../shared/routing/names.js';
import type { CapturedNetns } from '../../capture/firewall/captured-netns.js';
import type { WantedWorkload } from './own-workloads.js';

/** A workload of this node whose namespace was found, and how far it has come into the mesh. */
export type Held = {
  readonly name: WorkloadName;
  readonly netnsPath: string;
  readonly netnsInode: number;
  readonly sinceMs: number;
  /** An earlier run of the agent captured it, perhaps with rules for late accept: its rules are still there. */
  readonly wasCaptured: boolean;
  /** The workers were told to listen for it. */
  isListenedFor: boolean;
  /** Rules may be in its namespace: an earlier run captured it, or a load was begun. */
  mayHaveRules: boolean;
  /** Rules are in its namespace, perhaps those of an earlier run. */
  hasRules: boolean;
  /** What is loaded in the namespace, as text, to detect changes; null: nothing yet. */
  applied: string | null;
  /** Of that, the ports whose connects are sent to the queue. */
  appliedLatePorts: readonly number[];
  /** Rules put SYNs into the queue of late accept. */
  hasLateRules: boolean;
  /** Why they could not be loaded, since the ports changed; null: they could. */
  lateRulesProblem: string | null;
};

const noLateRules = { hasLateRules: false, lateRulesProblem: null } as const;

export function newlyHeld(init: Pick<Held, 'name' | 'netnsPath' | 'netnsInode' | 'sinceMs' | 'wasCaptured'>): Held {
  return {
    ...init,
    isListenedFor: false,
    mayHaveRules: init.wasCaptured,
    hasRules: init.wasCaptured,
    applied: null,
    appliedLatePorts: [],
    ...noLateRules,
  };
}

/** What has to be captured of it, without late accept. */
export function capturedNetnsOf({ name, netnsPath }: Held, { addresses, capture }: WantedWorkload): CapturedNetns {
  return { name, netnsPath, addresses, exclusions: capture };
}

export function appliedText(workload: CapturedNetns, latePorts: readonly number[]): string {
  return JSON.stringify([workload, latePorts]);
}

type Arriving = Pick<Held, 'name' | 'sinceMs'>;

/** How long a new workload waits for others that come with it, so that they are captured together. */
const togetherMs = 2000;

/**
 * Whom new workloads wait for that could be captured now: another one that came at about the same time and is not ready.
 * Captured one by one, the one that is not captured yet would send in plaintext to one that is, whose rules refuse it.
 * Null: for none, or for no longer.
 */
export function awaitedBy(o: {
  readonly ready: readonly Arriving[];
  /** New ones that are not ready. */
  readonly coming: readonly Arriving[];
  readonly nowMs: number;
}): { readonly name: WorkloadName; readonly forMs: number } | null {
  const leftMs = ({ sinceMs }: Arriving): number => sinceMs + togetherMs - o.nowMs;
  const [awaited] = o.coming.filter((each) => leftMs(each) > 0);
  const forMs = Math.min(...o.ready.map(leftMs));
  return awaited === undefined || o.ready.length === 0 || forMs <= 0 ? null : { name: awaited.name, forMs };
}

/** Null: the rules of the workload have all these ports, or it is not captured. */
export function lateRulesMissing(held: Held | undefined, latePorts: readonly number[]): string | null {
  if (held === undefined || held.applied === null) return null;
  const has = new Set(held.appliedLatePorts);
  return latePorts.every((port) => has.has(port)) ? null : lateDetail('its rules are not loaded yet');
}

export function lateDetail(problem: string): string {
  return `connects to ports with earlyAccept: false are accepted early: ${problem}`;
}
