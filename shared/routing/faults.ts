import type { FaultShare, RouteFaults } from '../policy/traffic-documents.js';

export type FaultKind = 'delay' | 'abort' | 'throttle';

/** What one connection gets, in this order: it waits, and is refused or slowed down. */
export type DrawnFaults = {
  /** Milliseconds; 0: it does not wait. */
  readonly delayMs: number;
  readonly isAborted: boolean;
  /** Each way; null: as fast as it goes. */
  readonly bytesPerSecond: number | null;
};

/** Draws what a new connection gets. `random`: from 0 to just below 1. Null: it goes as without faults. */
export function drawnFaults(
  { delay, abort, throttle }: RouteFaults,
  { nowMs, random }: { readonly nowMs: number; readonly random: () => number },
): DrawnFaults | null {
  const isDrawn = (share: FaultShare | undefined): boolean =>
    share !== undefined && !hasExpired(share, nowMs) && 100 * random() < share.percent;
  const delayMs = isDrawn(delay) ? (delay?.delayMs ?? 0) : 0;
  const isAborted = isDrawn(abort);
  const bytesPerSecond = isDrawn(throttle) ? (throttle?.bytesPerSecond ?? null) : null;
  return delayMs === 0 && !isAborted && bytesPerSecond === null ? null : { delayMs, isAborted, bytesPerSecond };
}

/** `expiresAt` is the first instant without the fault, as for rules. */
export function hasExpired({ expiresAtMs }: FaultShare, nowMs: number): boolean {
  return expiresAtMs !== undefined && expiresAtMs <= nowMs;
}

/** One of the faults of a route, for people. `says`: what it does. */
export type WrittenFault = FaultShare & { readonly fault: FaultKind; readonly says: string };

/** In the order in which a connection gets them. */
export function writtenFaults({ delay, abort, throttle }: RouteFaults): WrittenFault[] {
  return [
    ...(delay === undefined ? [] : [written('delay', delay, `delay of ${spanText(delay.delayMs)}`)]),
    ...(abort === undefined ? [] : [written('abort', abort, 'abort')]),
    ...(throttle === undefined
      ? []
      : [written('throttle', throttle, `throttle to ${throttle.bytesPerSecond} bytes a second each way`)]),
  ];
}

/** Those of them that new connections may get. */
export function faultsInEffect(faults: RouteFaults, nowMs: number): WrittenFault[] {
  return writtenFaults(faults).filter((fault) => fault.percent > 0 && !hasExpired(fault, nowMs));
}

function spanText(ms: number): string {
  return ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`;
}

function written(fault: FaultKind, { percent, expiresAtMs }: FaultShare, says: string): WrittenFault {
  return { fault, says, percent, ...(expiresAtMs === undefined ? {} : { expiresAtMs }) };
}
