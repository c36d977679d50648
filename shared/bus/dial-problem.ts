import { createConnection, isIP, type Socket } from 'node:net';
import { connect } from 'node:tls';
import type { TlsOptions } from 'nats';
import { hostAndPortOf } from './server-address.js';
import { timeoutSignal } from '../timeout-signal.js';

const timeoutMs = 5000;
/** The first line of nats-server has at most a few KiB. */
const maxGreetingBytes = 64 * 1024;

/**
 * Why a NATS server cannot be reached now: dials it as the client does, up to the end of the TLS handshake, and sends no
 * credential. Null when that works. The client itself says nothing about an attempt to reconnect that fails before the
 * server has answered to the credential.
 */
export async function dialProblem(server: string, tls: TlsOptions | null, signal: AbortSignal): Promise<unknown> {
  const { host, port } = hostAndPortOf(server);
  const socket = createConnection({ host, port });
  const limit = AbortSignal.any([signal, timeoutSignal(timeoutMs)]);
  const giveUp = (): void => void socket.destroy(new Error(`no answer within ${timeoutMs / 1000} s`));
  limit.addEventListener('abort', giveUp, { once: true });
  try {
    await greeted(socket);
    if (tls !== null) await handshaken(socket, host, tls);
    return null;
  } catch (error) {
    return error;
  } finally {
    limit.removeEventListener('abort', giveUp);
    socket.destroy();
  }
}

/** Waits for the line with which nats-server begins, before TLS. */
function greeted(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    let text = '';
    const take = (chunk: Buffer): void => {
      text += chunk.toString('latin1');
      if (text.includes('\r\n')) {
        socket.off('data', take);
        socket.pause();
        resolve();
      } else if (text.length > maxGreetingBytes) reject(new Error('the server does not speak NATS'));
    };
    socket.on('data', take);
    socket.on('error', reject);
    socket.once('close', () => reject(new Error('the server closed the connection')));
  });
}

function handshaken(socket: Socket, host: string, tls: TlsOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const name = isIP(host) === 0 ? { servername: host } : {};
    const secure = connect({ ...name, ...tls, ca: tls.ca, socket }, () => {
      // In order, so that the server has the last message of the handshake and logs no error.
      secure.end(resolve);
    });
    secure.on('error', reject);
    secure.once('close', () => reject(new Error('the server closed the connection in the TLS handshake')));
  });
}
