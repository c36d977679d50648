import { once } from 'node:events';
import { connect as connectTcp, createServer, type Socket } from 'node:net';
import { connect as connectTls, TLSSocket, createSecureContext } from 'node:tls';
import type { TunnelCertificates } from '../../../agent/dataplane/tunnel/tunnel.js';
import type { EngineDesk } from './engine-desk.js';

const alpnH2 = Buffer.from('\u0002h2', 'latin1');
const suites = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256';

export type ContextWish = { readonly alpn?: Uint8Array; readonly recordsPerKey?: number; readonly rootsPem?: string };

export function engineContext(
  desk: EngineDesk,
  isServer: boolean,
  { certificates: [own], rootsPem }: TunnelCertificates,
  wish: ContextWish = {},
): number {
  const [chain, key] = [Buffer.from(own?.chainPem ?? ''), Buffer.from(own?.keyPem ?? '')];
  const roots = Buffer.from(wish.rootsPem ?? rootsPem);
  const { alpn = alpnH2, recordsPerKey = 2 ** 23 } = wish;
  return desk.calls.ioTlsContext(isServer, chain, key, roots, alpn, suites, recordsPerKey);
}

/** Two ends of the engine after their handshake, each admitted by the other. */
export async function tlsPair(
  desk: EngineDesk,
  contexts: readonly [client: number, server: number],
): Promise<[client: number, server: number]> {
  const [client, server] = await desk.pair();
  desk.calls.ioTlsBegin(client, contexts[0]);
  desk.calls.ioTlsBegin(server, contexts[1]);
  const results = await Promise.all([desk.handshake(client), desk.handshake(server)]);
  if (results.some((result) => result !== 1)) throw new Error(`handshakes: ${results.join(', ')}`);
  for (const each of [client, server]) desk.calls.ioTlsAdmit(each);
  return [client, server];
}

/** Node's own TLS as an independent peer: a client, or a server on a connection that the engine dialled. */
export type NodeSide = { readonly socket: TLSSocket; readonly handle: number; readonly listener?: number };

export async function nodeClient(
  desk: EngineDesk,
  { certificates: [own], rootsPem }: TunnelCertificates,
  options: object = {},
): Promise<NodeSide> {
  const { handle: listener, port } = desk.listen();
  const raw = connectTcp(port, '127.0.0.1');
  const handle = await desk.accept(listener);
  desk.close(listener);
  const socket = connectTls({
    socket: raw,
    ca: rootsPem,
    cert: own?.chainPem,
    key: own?.keyPem,
    ALPNProtocols: ['h2'],
    checkServerIdentity: () => undefined,
    ...options,
  });
  socket.on('error', () => {});
  return { socket, handle };
}

export async function nodeServer(
  desk: EngineDesk,
  { certificates: [own], rootsPem }: TunnelCertificates,
  options: object = {},
): Promise<NodeSide> {
  const listening = createServer({ pauseOnConnect: true });
  listening.listen(0, '127.0.0.1');
  await once(listening, 'listening');
  const { port } = listening.address() as { port: number };
  const accepted = once(listening, 'connection') as Promise<[Socket]>;
  const handle = await desk.connect(port);
  const [raw] = await accepted;
  listening.close();
  const socket = new TLSSocket(raw, {
    isServer: true,
    secureContext: createSecureContext({ ca: rootsPem, cert: own?.chainPem, key: own?.keyPem }),
    requestCert: true,
    rejectUnauthorized: false,
    ALPNProtocols: ['h2'],
    ...options,
  });
  socket.on('error', () => {});
  return { socket, handle };
}
