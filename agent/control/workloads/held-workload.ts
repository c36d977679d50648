import type { WorkloadName } from '../../../shared/routing/names.js';
import type { CapturedNetns } from '../../capture/firewall/captured-netns.js';
import type { LocalWorkload } from '../../dataplane/messages.js';
import type { WantedWorkload } from './own-workloads.js';

/** A workload of this node whose namespace was found, and how far it has come into the mesh. */
export type Held = {
  readonly name: WorkloadName;
  readonly netnsPath: string;
  readonly netnsInode: number;
  /** When it was found, as `Scheduler.elapsedMs` counts. */
  readonly sinceMs: number;
  /** An earlier run of the agent captured it, perhaps with rules for late accept: its rules are still there. */
  readonly wasCaptured: boolean;
  /**
   * The rules that are there exempt the sockets of an earlier run only, and capture those of this one, until this one's rules
   * are loaded.
   */
  exemptsOther: boolean;
  /** The workers were told to listen for it. */
  isListenedFor: boolean;
  /** Rules may be in its namespace: an earlier run captured it, or a load was begun. */
  mayHaveRules: boolean;
  /** Rules are in its namespace, perhaps those of an earlier run. */
  hasRules: boolean;
  /** Connections of it and to it wait until it is captured. */
  isClosed: boolean;
  /** Another workload had the namespace until now, and its capture goes on until this one's rules are loaded; null: none. */
  readonly takesOver: WorkloadName | null;
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

export function newlyHeld(
  init: Pick<Held, 'name' | 'netnsPath' | 'netnsInode' | 'sinceMs' | 'wasCaptured' | 'exemptsOther' | 'takesOver'>,
): Held {
  return {
    ...init,
    isListenedFor: false,
    mayHaveRules: init.wasCaptured,
    hasRules: init.wasCaptured,
    isClosed: false,
    applied: null,
    appliedLatePorts: [],
    ...noLateRules,
  };
}

/** What has to be captured of it, without late accept. */
export function capturedNetnsOf({ name, netnsPath }: Held, { addresses, capture }: WantedWorkload): CapturedNetns {
  return { name, netnsPath, addresses, exclusions: capture };
}

/** The workload as the workers get it. */
export function listenedFor(
  { name, netnsPath, netnsInode, hasLateRules, hasRules }: Held,
  latePorts: readonly number[],
): LocalWorkload {
  return {
    name,
    netnsPath,
    netnsInode,
    ...(hasRules ? { hasRules } : {}),
    // As long as rules put SYNs into the queue, something must take them out.
    ...(latePorts.length > 0 || hasLateRules ? { acceptsLate: true as const } : {}),
  };
}

export function appliedText(workload: CapturedNetns, latePorts: readonly number[]): string {
  return JSON.stringify([workload, latePorts]);
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
