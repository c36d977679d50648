import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import process from 'node:process';
import { createInterface } from 'node:readline';

/**
 * Opens connections and keeps them: `silent` sends nothing, `slow` a byte of a request each second (within TLS where the
 * server wants it). What the server ends is opened again within 10 s. Says "held" when all were opened once.
 */
const program = `
  const [host, port, count, kind] = process.argv.slice(1);
  const net = require('node:net');
  const tls = require('node:tls');
  const request = 'GET /healthz HTTP/1.1\\r\\nhost: x\\r\\nx: ' + 'y'.repeat(1000);
  let opened = 0;
  const open = () => {
    const raw = net.connect({ host, port: Number(port) });
    let isCounted = false;
    const count1 = () => {
      if (isCounted) return;
      isCounted = true;
      if (++opened === Number(count)) console.log('held');
    };
    raw.on('error', () => undefined);
    raw.on('connect', () => {
      count1();
      if (kind === 'silent') return;
      const socket = kind === 'slow-tls' ? tls.connect({ socket: raw, rejectUnauthorized: false }) : raw;
      socket.on('error', () => undefined);
      let at = 0;
      const timer = setInterval(() => socket.write(request[at++ % request.length]), 1000);
      socket.on('close', () => clearInterval(timer));
    });
    raw.on('close', () => { count1(); setTimeout(open, 5000 + Math.random() * 5000); });
    raw.resume();
  };
  for (let index = 0; index < Number(count); index++) setTimeout(open, index / 5);
`;

/** Another process that holds connections to a server, until it is disposed. */
export async function holdConnections(o: {
  readonly port: number;
  readonly count: number;
  readonly kind: 'silent' | 'slow' | 'slow-tls';
}): Promise<AsyncDisposable> {
  const args = ['127.0.0.1', o.port, o.count, o.kind].map(String);
  const child: ChildProcess = spawn(process.execPath, ['-e', program, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  if (child.stdout === null) throw new Error('no output');
  await once(createInterface({ input: child.stdout }), 'line');
  return {
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL');
      await exited;
    },
  };
}
