import { constants } from 'node:crypto';
import { once } from 'node:events';
import { connect as connectTcp, createServer, type AddressInfo, type Socket } from 'node:net';
import { connect as connectTls, createSecureContext, TLSSocket } from 'node:tls';
import { IoTransport } from '../../../agent/dataplane/engine/lean/io-transport.js';
import { SocketTransport } from '../../../agent/dataplane/engine/lean/socket-transport.js';
import type { Transport } from '../../../agent/dataplane/engine/lean/transport.js';
import { Reactor } from '../../../agent/dataplane/io/reactor.js';
import { TlsSession } from '../../../agent/dataplane/io/tls-session.js';
import type { TunnelCertificates } from '../../../agent/dataplane/tunnel/tunnel.js';
import { dialTls, listenWith, tlsContext, TlsEnd } from '../agent/tls-end.js';
import { eventually } from './tunnel-pair.js';

export type TransportKind = 'socket' | 'io';
export const transportKinds = ['socket', 'io'] as const satisfies readonly TransportKind[];

/** Both ends of one TLS connection over loopback, each on its own kind of transport. Neither has been started. */
export async function transportPair(
  [near, far]: readonly [TransportKind, TransportKind],
  certificates: { readonly client: TunnelCertificates; readonly server: TunnelCertificates },
): Promise<readonly [near: Transport, far: Transport]> {
  const accepting = await listen(far, certificates.server);
  const [nearEnd, farEnd] = await Promise.all([dial(near, certificates.client, accepting.port), accepting.end]);
  return [nearEnd, farEnd];
}

async function listen(
  kind: TransportKind,
  own: TunnelCertificates,
): Promise<{ readonly port: number; readonly end: Promise<Transport> }> {
  if (kind === 'io') return listenIo(own);
  const listening = createServer({ pauseOnConnect: true });
  listening.listen(0, '127.0.0.1');
  await once(listening, 'listening');
  const end = (once(listening, 'connection') as Promise<[Socket]>).then(async ([raw]) => {
    listening.close();
    const options = { isServer: true, secureContext: contextOf(own), requestCert: true, rejectUnauthorized: false };
    const socket = new TLSSocket(raw.setNoDelay(true), { ...options, ALPNProtocols: ['h2'] });
    await once(socket, 'secure');
    return new SocketTransport(socket);
  });
  return { port: (listening.address() as AddressInfo).port, end };
}

function listenIo(own: TunnelCertificates): { readonly port: number; readonly end: Promise<Transport> } {
  const reactor = Reactor.ofThread();
  const context = tlsContext(reactor, 'server', own);
  const end = new TlsEnd();
  const transport = transportOf(end);
  const { port } = listenWith(reactor, ({ handle }, listener) => {
    listener.close();
    end.take(TlsSession.begin(reactor, { handle, context, owner: end }));
    context.free();
  });
  return { port, end: transport };
}

async function dial(kind: TransportKind, own: TunnelCertificates, port: number): Promise<Transport> {
  if (kind === 'io') {
    const reactor = Reactor.ofThread();
    const context = tlsContext(reactor, 'client', own);
    const end = new TlsEnd();
    const transport = transportOf(end);
    dialTls(reactor, port, context, end);
    return transport.finally(() => context.free());
  }
  const raw = connectTcp({ port, host: '127.0.0.1' }).setNoDelay(true);
  const socket = connectTls({
    socket: raw,
    secureContext: contextOf(own),
    checkServerIdentity: () => undefined,
    ALPNProtocols: ['h2'],
  });
  await once(socket, 'secureConnect');
  return new SocketTransport(socket);
}

/** The transport takes over at once: nothing that comes with the end of the handshake passes by it. */
async function transportOf(end: TlsEnd): Promise<Transport> {
  let made: Transport | undefined;
  end.judge = (_peer, session) => {
    session.admit();
    made = new IoTransport(session);
  };
  await eventually('the handshake', () => made !== undefined || end.isClosed);
  if (made === undefined) throw new Error(`no session: ${end.failure?.message}`);
  return made;
}

function contextOf({ certificates: [own], rootsPem }: TunnelCertificates): ReturnType<typeof createSecureContext> {
  // As the product does. A ticket that is not read turns the close of a client into a reset.
  const secureOptions = constants.SSL_OP_NO_TICKET;
  return createSecureContext({ ca: rootsPem, cert: own?.chainPem, key: own?.keyPem, secureOptions });
}
