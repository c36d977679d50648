import { Duplex } from 'node:stream';
import { connect, createServer, type TLSSocket } from 'node:tls';

const timeoutMs = 10_000;

export type TlsEnd = { readonly chainPem: string; readonly keyPem: string };

/** What each side of a handshake got from the other, as TLS verified it (DER of the leaf). */
export type Handshake = { readonly ofServer: Uint8Array; readonly ofClient: Uint8Array | null };

/**
 * A TLS handshake within this process, over no network. OpenSSL verifies each side's chain for its purpose against the
 * roots, as it does for every peer later. `client` null: it shows no certificate, and none is wanted. Rejects with the error
 * of the side that refused.
 */
export async function handshake(o: {
  readonly server: TlsEnd;
  readonly client: TlsEnd | null;
  readonly rootsPem: string;
  /** Names that the server's certificate must carry; none: only its chain is verified. */
  readonly serverName: string | null;
}): Promise<Handshake> {
  const { server, client, rootsPem: ca, serverName } = o;
  const [clientSide, serverSide] = duplexPair();
  const listener = createServer({
    cert: server.chainPem,
    key: server.keyPem,
    ca,
    minVersion: 'TLSv1.3',
    requestCert: client !== null,
    rejectUnauthorized: true,
    handshakeTimeout: timeoutMs,
  });
  const accepted = new Promise<TLSSocket>((resolve, reject) => {
    listener.once('secureConnection', resolve);
    listener.once('tlsClientError', reject);
  });
  accepted.catch(() => undefined);
  listener.emit('connection', serverSide);
  const socket = connect({
    socket: clientSide,
    ca,
    minVersion: 'TLSv1.3',
    ...(client === null ? {} : { cert: client.chainPem, key: client.keyPem }),
    ...(serverName === null ? { checkServerIdentity: () => undefined } : { host: serverName }),
  });
  const connected = new Promise<void>((resolve, reject) => {
    socket.once('secureConnect', resolve);
    socket.on('error', reject);
    socket.once('close', () => reject(new Error('the handshake broke off')));
  });
  try {
    // In TLS 1.3 the client is done before the server has judged its certificate. When both fail, the first one knows why.
    const [peer] = await Promise.all([accepted, connected]);
    peer.on('error', () => undefined);
    return {
      ofServer: socket.getPeerCertificate().raw,
      ofClient: client === null ? null : peer.getPeerCertificate().raw,
    };
  } finally {
    socket.on('error', () => undefined);
    socket.destroy();
    clientSide.destroy();
    serverSide.destroy();
  }
}

/** Two streams, each of which reads what the other writes. */
function duplexPair(): [Duplex, Duplex] {
  const ends: Duplex[] = [];
  const end = (other: number): Duplex =>
    new Duplex({
      read: () => undefined,
      write: (chunk: Buffer, _encoding, done) => {
        ends[other]?.push(chunk);
        done();
      },
      final: (done) => {
        ends[other]?.push(null);
        done();
      },
    });
  const [first, second] = [end(1), end(0)];
  ends.push(first, second);
  return [first, second];
}
