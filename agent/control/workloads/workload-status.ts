import type { IpAddress } from '../../../shared/address.js';
import type { SpiffeId } from '../../../shared/identity.js';
import type { WorkloadName } from '../../../shared/routing/names.js';

export type WorkloadStatus = {
  readonly name: WorkloadName;
  /** Null: its registry entry cannot be read. */
  readonly identity: SpiffeId | null;
  readonly netnsPath: string | null;
  readonly captured: boolean;
  /** What it waits for, or what went wrong; null: its capture is as it should be. */
  readonly problem: string | null;
  /** The last attempt to listen for it or to capture it failed; the next one is on its way. */
  readonly hasFailed: boolean;
  /** Whether at least one worker accepts its connections. */
  readonly isListening: boolean;
  /**
   * It has what it takes to be served, and is listened for as soon as this agent is in charge and has loaded its rules: those
   * that are there capture what this agent opens.
   */
  readonly waitsForCharge: boolean;
  /** Why its connects to ports with `earlyAccept: false` are accepted early all the same; null: they are not. */
  readonly lateAcceptProblem: string | null;
  /** What is registered for it, as its namespace has to have it. */
  readonly addresses: readonly IpAddress[];
  /** Why its traffic may pass by the agent although it is captured: rules are missing or damaged; null: they are there. */
  readonly captureProblem: string | null;
};
