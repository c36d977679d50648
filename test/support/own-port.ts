import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';

/** Below the kernel's range of ephemeral ports (ip-sysctl.rst, `ip_local_port_range`), which no other test may take either. */
const ports = { first: 16_000, end: Math.min(32_000, ephemeralFrom()) };

/**
 * A TCP port of loopback for a server that is stopped and started again: no other test gets it, and the kernel gives it to no
 * connection, while this process runs. A port that the kernel chose (0) is free for others while its server is away.
 */
export async function ownPort(): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const port = ports.first + Math.floor(Math.random() * (ports.end - ports.first));
    if (!(await isLeased(port))) continue;
    if (await isFree(port)) return port;
  }
  throw new Error(`no free port between ${ports.first} and ${ports.end} of 127.0.0.1`);
}

/** Leases the port by a name of its network namespace (unix(7), abstract sockets), which ends with this process. */
async function isLeased(port: number): Promise<boolean> {
  const lease = createServer((socket) => socket.destroy());
  return await isListening(lease, () => lease.listen(`\0culvert-test-port-${port}`));
}

/** Whether no server of this machine listens there. */
async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  if (!(await isListening(server, () => server.listen({ host: '127.0.0.1', port, exclusive: true })))) return false;
  server.close();
  await once(server, 'close');
  return true;
}

async function isListening(server: ReturnType<typeof createServer>, listen: () => void): Promise<boolean> {
  server.unref();
  listen();
  try {
    await once(server, 'listening');
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return false;
    throw error;
  }
}

function ephemeralFrom(): number {
  const [first] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').trim().split(/\s+/);
  return Number(first);
}
