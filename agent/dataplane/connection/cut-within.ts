import type { TerminationSignal } from './termination-signal.js';

/** Resolves when the connection is cut, or was already, and after `ms` otherwise. Never rejects. */
export async function cutWithin(signal: TerminationSignal, ms: number): Promise<void> {
  if (signal.cut !== null) return;
  await new Promise<void>((resolve) => {
    const finish = (): void => {
      clearTimeout(timer);
      signal.offCut(finish);
      resolve();
    };
    const timer = setTimeout(finish, ms);
    signal.onCut(finish);
  });
}
