import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Bus } from '../../../../shared/bus/bus.js';
import { createLog } from '../../../../shared/log.js';
import type { ResourceStore } from '../../../../controller/store/resource-store.js';
import { StoreReconciler } from '../../../../controller/store/store-reconciler.js';

test('a comparison that a stop cuts off is no error in the log, and one that fails is', async () => {
  for (const isStopped of [true, false]) {
    const lines: string[] = [];
    const log = createLog({ name: 'test', level: 'info', stream: { write: (line) => void lines.push(line) } });
    const stop = new AbortController();
    const settle = (): Promise<void> => {
      if (isStopped) stop.abort();
      else setImmediate(() => stop.abort());
      return Promise.reject(new Error('no answer in time'));
    };
    const reconciler = new StoreReconciler({
      store: { settle } as unknown as ResourceStore,
      bus: { onStatus: () => () => undefined } as unknown as Bus,
      log,
      signal: stop.signal,
      afterSettling: () => Promise.resolve(),
    });
    await reconciler.run();
    assert.equal(lines.length, isStopped ? 0 : 1, lines.join());
  }
});
