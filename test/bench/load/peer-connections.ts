import { once } from 'node:events';
import net from 'node:net';
import process from 'node:process';

/** Prints a load program's report for the benchmark: one line, `report` and JSON. */
export function report(figures: Readonly<Record<string, number | readonly number[]>>): void {
  process.stdout.write(`report ${JSON.stringify(figures)}\n`);
}

export type PeerAddress = { readonly host: string; readonly port: number };

/** Connects to peer-server and sends the first byte: `e` to get an echo, `p` to get a stream. Rejects with its error. */
export async function dialPeer(address: PeerAddress, mode: 'e' | 'p'): Promise<net.Socket> {
  const socket = net.connect({ ...address, noDelay: true });
  await once(socket, 'connect');
  socket.write(mode);
  return socket;
}

/** Sends one byte and resolves when one comes back. Rejects when the connection ends or fails first. */
export async function ping(socket: net.Socket): Promise<void> {
  socket.write('x');
  await awaitAnswer(socket);
}

/** The next bytes; see {@link ping}. */
export function awaitAnswer(socket: net.Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error: Error | null): void => {
      socket.off('data', onData);
      socket.off('error', settle);
      socket.off('close', onClose);
      if (error === null) resolve();
      else reject(error);
    };
    const onData = (): void => settle(null);
    const onClose = (): void => settle(new Error('the connection was closed without an answer'));
    socket.on('data', onData);
    socket.on('error', settle);
    socket.on('close', onClose);
  });
}

/** The arguments of every load program: HOST, PORT and a number. */
export function readArguments(): { readonly address: PeerAddress; readonly count: number } {
  const [host = '', port, count] = process.argv.slice(2);
  return { address: { host, port: Number(port) }, count: Number(count) };
}
