import net from 'node:net';
import process from 'node:process';
import { readArguments, report } from './peer-connections.js';

/** `fast-reader.js HOST PORT MILLISECONDS`: reads a stream as fast as it can, timed after a warm-up of 300 ms. */
const settleMs = 300;
const { address, count: milliseconds } = readArguments();
let bytes = 0;

// Reads into one buffer, so that the client is not the bottleneck.
const socket = net.connect({
  ...address,
  onread: {
    buffer: Buffer.alloc(1024 * 1024),
    callback: (read) => {
      bytes += read;
      return true;
    },
  },
});
socket.on('error', (error) => {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
});
socket.on('connect', () => {
  socket.write('p');
  setTimeout(() => {
    bytes = 0;
    const startedAt = performance.now();
    setTimeout(() => {
      report({ bytes, seconds: (performance.now() - startedAt) / 1000 });
      process.kill(process.pid, 'SIGTERM');
    }, milliseconds);
  }, settleMs);
});
