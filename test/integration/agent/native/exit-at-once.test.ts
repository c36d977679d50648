import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { withDeadline } from '../../../support/tunnel/tunnel-pair.js';

test('a process ends at once although one of its threads can never end', async () => {
  const addon = new URL('../../../../agent/native/addon.js', import.meta.url).href;
  // The thread loses a socket in the way that Node does (see resetSocket), so its event loop never becomes empty.
  const thread = `
    const net = require('node:net');
    const listening = net.createServer((socket) => {
      socket.on('error', () => {}).end();
      socket.resetAndDestroy();
      require('node:worker_threads').parentPort.postMessage('lost');
    });
    listening.listen(0, '127.0.0.1', () => net.connect(listening.address().port, '127.0.0.1').on('error', () => {}));`;
  const text = `
    const { Worker } = require('node:worker_threads');
    import(${JSON.stringify(addon)}).then(({ exitAtOnce }) => {
      const worker = new Worker(${JSON.stringify(thread)}, { eval: true });
      worker.once('message', () => exitAtOnce(7));
    });`;
  const child = spawn(process.execPath, ['--eval', text], { stdio: 'inherit' });
  try {
    const [code] = await withDeadline('the end of the process', once(child, 'exit'));
    assert.equal(code, 7);
  } finally {
    child.kill('SIGKILL');
  }
});
