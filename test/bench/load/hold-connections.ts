import type net from 'node:net';
import process from 'node:process';
import { awaitAnswer, dialPeer, ping, readArguments, report } from './peer-connections.js';

/**
 * `hold-connections.js HOST PORT COUNT`: opens COUNT connections, verifies each with an echoed byte, and holds them. SIGUSR2
 * checks that all still carry bytes; SIGTERM ends it.
 */
const inFlight = 100;
const { address, count } = readArguments();
const held: net.Socket[] = [];
let waiting = count;

process.on('SIGUSR2', () => {
  void Promise.all(held.map(ping)).then(() => report({ alive: held.length }), fail);
});

const startedAt = performance.now();
await Promise.all(Array.from({ length: inFlight }, openSome)).catch(fail);
report({ open: held.length, seconds: (performance.now() - startedAt) / 1000 });

async function openSome(): Promise<void> {
  while (waiting > 0) {
    waiting -= 1;
    const socket = await dialPeer(address, 'e');
    socket.on('error', fail);
    await awaitAnswer(socket);
    held.push(socket);
  }
}

function fail(error: unknown): void {
  process.stderr.write(`with ${held.length} connections open: ${String(error)}\n`);
  process.exitCode = 1;
  process.kill(process.pid, 'SIGTERM');
}
