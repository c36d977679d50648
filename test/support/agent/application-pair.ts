import { once } from 'node:events';
import net from 'node:net';
import { IoListener } from '../../../agent/dataplane/io/io-listener.js';
import { Reactor } from '../../../agent/dataplane/io/reactor.js';
import { ApplicationSocket } from '../../../agent/dataplane/relay/application-socket.js';
import { listenTcp, socketAddresses } from '../../../agent/native/addon.js';
import { dialSocket } from '../../../agent/native/dial-sockets.js';

/** An application's socket in this process, and the agent's for it, which was accepted from it. */
export async function acceptedPair(): Promise<[net.Socket, ApplicationSocket]> {
  const reactor = Reactor.ofThread();
  const fd = listenTcp({ netnsFd: null, host: '127.0.0.1', port: 0, backlog: 1, reusePort: false });
  const { port } = socketAddresses(fd).local;
  let onAccepted: (handle: number) => void = () => {};
  const accepted = new Promise<number>((resolve) => (onAccepted = resolve));
  const owner = {
    onConnection: ({ handle }: { readonly handle: number }) => onAccepted(handle),
    onExhausted: (code: string) => {
      throw new Error(code);
    },
  };
  const listener = IoListener.adopt(reactor, fd, { owner });
  if (typeof listener === 'string') throw new Error(listener);
  const application = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
  application.on('error', () => {});
  const handle = await accepted;
  listener.close();
  const agent = ApplicationSocket.accepted(reactor, handle);
  if (application.connecting) await once(application, 'connect');
  return [application, agent];
}

/** The same, dialled to it. */
export async function dialledPair(): Promise<[net.Socket, ApplicationSocket]> {
  const listening = net.createServer({ allowHalfOpen: true, noDelay: true });
  listening.listen(0, '127.0.0.1');
  await once(listening, 'listening');
  const { port } = listening.address() as net.AddressInfo;
  const accepted = once(listening, 'connection') as Promise<[net.Socket]>;
  const fd = dialSocket({ netnsFd: null, family: 4, mark: 0 });
  const agent = await new Promise<ApplicationSocket>((resolve, reject) => {
    const onDialled = (errno: string | null): void => {
      if (errno === null && typeof made !== 'string') resolve(made);
      else reject(new Error(String(errno)));
    };
    const made = ApplicationSocket.dial(Reactor.ofThread(), { fd, ip: '127.0.0.1', port }, { onDialled });
    if (typeof made === 'string') reject(new Error(made));
    else if (made.isConnected) resolve(made);
  });
  const [application] = await accepted;
  application.on('error', () => {});
  listening.close();
  return [application, agent];
}
