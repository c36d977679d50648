import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../shared/log.js';

/** Runs the tasks one after the other every `everyMs`. A task that fails is logged and runs again in the next round. */
export function startMaintenance(init: {
  readonly everyMs: number;
  readonly tasks: readonly (() => Promise<void>)[];
  readonly log: Log;
}): AsyncDisposable {
  const abort = new AbortController();
  const { signal } = abort;
  const running = (async (): Promise<void> => {
    for (;;) {
      await delay(init.everyMs, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      for (const task of init.tasks) {
        await task().catch((error: unknown) =>
          init.log.error({ err: error }, 'a maintenance task failed; trying again in the next round'),
        );
      }
    }
  })();
  return {
    [Symbol.asyncDispose]: async () => {
      abort.abort();
      await running;
    },
  };
}
