import type { Socket } from 'node:net';
import type { LabTopology } from '../../lab/topology.js';
import { PatientTimer } from '../../lab/patience.js';

/**
 * The topology that most end-to-end tests share: a client and a neighbour on one host, a server and a second one on the
 * other, a service over both servers, and a machine outside the mesh.
 */
export const twoHosts: LabTopology = {
  hosts: [
    {
      name: 'node1',
      workloads: [
        { name: 'client', namespace: 'shop', serviceAccount: 'client', labels: { app: 'client' } },
        { name: 'neighbour', namespace: 'shop', serviceAccount: 'neighbour', labels: { app: 'neighbour' } },
      ],
    },
    {
      name: 'node2',
      workloads: [
        { name: 'server', namespace: 'shop', serviceAccount: 'server', labels: { app: 'server', tier: 'back' } },
        { name: 'spare', namespace: 'shop', serviceAccount: 'server', labels: { app: 'spare', tier: 'back' } },
      ],
    },
  ],
  services: [
    { name: 'front', namespace: 'shop', ports: [{ port: 80, targetPort: 8080 }], selector: { app: 'server' } },
    { name: 'back', namespace: 'shop', ports: [{ port: 80, targetPort: 8080 }], selector: { tier: 'back' } },
  ],
  externalHosts: ['outside'],
};

/**
 * Everything that comes until the other side closes its half. Rejects with the socket's error, such as ECONNRESET, also when
 * that came before. (An async iteration would destroy the socket at the end, and with it the half that is still open.)
 */
export function readToEnd(socket: Socket): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.once('end', () => resolve(Buffer.concat(chunks)));
    onceBroken(socket, reject);
  });
}

/** The first bytes that come. Rejects when the connection ends or breaks before, or has done so. */
export function readSome(socket: Socket): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const settle = (): void => {
      socket.pause().off('data', come).off('end', ended);
      forget();
    };
    const come = (chunk: Buffer): void => (settle(), resolve(chunk));
    const broken = (error: Error): void => (settle(), reject(error));
    const ended = (): void => broken(new Error('the connection ended without a byte'));
    const forget = onceBroken(socket, broken);
    socket.once('data', come).once('end', ended).resume();
  });
}

/** Calls `broken` once, soon if the socket has ended already: then no event comes any more. Returns what takes it back. */
function onceBroken(socket: Socket, broken: (error: Error) => void): () => void {
  const closed = (): void => broken(socket.errored ?? new Error('the connection was closed without an end'));
  if (socket.destroyed || socket.readableEnded) process.nextTick(closed);
  else socket.once('error', broken).once('close', closed);
  return () => void socket.off('error', broken).off('close', closed);
}

/** How a connection ends for who holds it: `end` (FIN) or the code of its error (`ECONNRESET`). Discards what comes. */
export function endOf(socket: Socket, deadlineMs = 30_000): Promise<string> {
  return new Promise((resolve, reject) => {
    const timer = new PatientTimer(deadlineMs, () =>
      reject(new Error(`the connection is still open after ${deadlineMs} ms`)),
    );
    const settle = (how: string): void => {
      timer.clear();
      resolve(how);
    };
    socket.once('end', () => settle('end'));
    socket.once('error', (error) => settle(codeOf(error)));
    socket.once('close', () => settle('close'));
    if (socket.destroyed) settle(socket.errored === null ? 'close' : codeOf(socket.errored));
    socket.resume();
  });
}

function codeOf(error: NodeJS.ErrnoException): string {
  return error.code ?? error.message;
}
