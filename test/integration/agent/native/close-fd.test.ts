import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { patientSignal } from '../../../lab/patience.js';

test('a descriptor of the addon is closed in a worker thread without a warning', async () => {
  const addon = new URL('../../../../agent/native/addon.js', import.meta.url).href;
  const code = `
    const { parentPort } = require('node:worker_threads');
    const warnings = [];
    process.on('warning', ({ message }) => warnings.push(message));
    import(${JSON.stringify(addon)}).then(({ closeFd, openConntrack }) => {
      const fd = openConntrack({ netnsFd: null });
      closeFd(fd);
      let error = null;
      try {
        closeFd(fd);
      } catch ({ code }) {
        error = code;
      }
      setImmediate(() => parentPort.postMessage({ warnings, error }));
    });
  `;
  const worker = new Worker(code, { eval: true, trackUnmanagedFds: true });
  const [seen] = (await once(worker, 'message', { signal: patientSignal(20_000) })) as [unknown];
  assert.deepEqual(seen, { warnings: [], error: 'EBADF' });
  await worker.terminate();
});
