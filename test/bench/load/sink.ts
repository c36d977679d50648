import { readFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import process from 'node:process';
import tls from 'node:tls';

/**
 * `sink.js PORT [DIRECTORY]`: a server that is not Culvert and gets what attackers send, to tell what their load costs a
 * neighbour on this machine by itself. It reads and discards. DIRECTORY: it does TLS 1.3 with the certificate there; without
 * one it speaks no TLS. It keeps as many connections of a client as Culvert does, or all of them: `sink.js PORT '' all`.
 */
const [port, directory = '', keeps = ''] = process.argv.slice(2);
const read = (name: string): string => readFileSync(path.join(directory, name), 'utf8');
/** Of one program here, and of one source in a server of Culvert. The oldest one goes. */
const mostConnections = keeps === 'all' ? Number.POSITIVE_INFINITY : 256;
const open = new Set<net.Socket>();
const discard = (socket: net.Socket): void => {
  socket.on('error', () => {}).resume();
  socket.once('close', () => open.delete(socket));
  open.add(socket);
  const [oldest] = open;
  if (open.size > mostConnections) oldest?.destroy();
};
const server =
  directory === ''
    ? net.createServer(discard)
    : tls.createServer(
        {
          cert: read('certificate.pem'),
          key: read('key.pem'),
          ca: read('roots.pem'),
          requestCert: true,
          rejectUnauthorized: false,
          ALPNProtocols: ['h2'],
          minVersion: 'TLSv1.3',
        },
        discard,
      );
// What a server of HTTP/2 says first: an attacker waits for it who wants to know that it was accepted.
const settings = Buffer.from('000000040000000000', 'hex');
server.on('secureConnection', (socket: tls.TLSSocket) => socket.write(settings));
server.on('tlsClientError', (_error, socket: net.Socket) => socket.destroy());
server.listen({ port: Number(port), host: '::', backlog: 4096 }, () => process.stdout.write(`listening on ${port}\n`));
