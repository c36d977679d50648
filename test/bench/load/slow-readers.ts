import type net from 'node:net';
import { dialPeer, readArguments, report } from './peer-connections.js';

/**
 * `slow-readers.js HOST PORT COUNT`: COUNT connections that each read 64 KiB of a stream every two seconds, until SIGTERM.
 */
const { address, count } = readArguments();
const roundMs = 2000;
const tickMs = 50;

const sockets = await Promise.all(
  Array.from({ length: count }, async () => {
    const socket = await dialPeer(address, 'p');
    socket.on('error', () => {});
    socket.pause();
    return socket;
  }),
);
await Promise.all(sockets.map(readOnce));
report({ reading: sockets.length });

let next = 0;
const perTick = Math.ceil((count * tickMs) / roundMs);
setInterval(() => {
  for (let read = 0; read < perTick; read++) {
    const socket = sockets[next++ % sockets.length];
    if (socket !== undefined) void readOnce(socket);
  }
}, tickMs);

function readOnce(socket: net.Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.once('data', () => {
      socket.pause();
      resolve();
    });
    socket.resume();
  });
}
