import { EventEmitter, once } from 'node:events';
import type { Socket } from 'node:net';
import type { LabNode } from '../../lab/lab-node.js';

/** Both applications of one connection. */
export type ConnectedPair = {
  readonly client: Socket;
  readonly server: Socket;
  /** A closed socket has none any more. */
  readonly clientPort: number;
};

/** One connection over IPv4 to a listener of its own, which closes at once. */
export async function connectedPair(from: LabNode, to: LabNode): Promise<ConnectedPair> {
  const arrivals = new EventEmitter<{ connection: [Socket] }>();
  const accepted = once(arrivals, 'connection') as Promise<[Socket]>;
  const listener = await to.listen({}, (socket) => arrivals.emit('connection', socket));
  const client = await from.connect({ ip: to.ipv4, port: listener.port });
  const [server] = await accepted;
  listener.server.close();
  return { client, server, clientPort: client.localPort ?? 0 };
}
