import { formatHostPort, type IpAddress, parseIp } from '../../../shared/address.js';
import type { AccessLogLine } from '../../../agent/telemetry/access-log.js';
import type { LabNode, LabWorkload } from '../../lab/lab-node.js';
import type { Mesh } from '../../lab/mesh.js';
import type { LabServer } from '../../lab/namespace-sockets.js';
import { readToEnd } from './two-hosts.js';

/** What became of one connection, as its client saw it. */
export type Attempt = {
  /** Name of the server and the address that it saw, when it answered; else null. */
  readonly seenAs: string | null;
  /** `OK`, or the code of the error (`ECONNRESET`, `ECONNREFUSED`, `LAB_CONNECT_DEADLINE`). */
  readonly outcome: string;
  /** `ip:port` that was dialled. */
  readonly dialled: string;
  readonly startedAtMs: number;
};

/** A server that tells each client the address that it sees, and who it is. */
export function serveSeenAddress(at: LabNode, port: number): Promise<LabServer> {
  return at.listen({ port }, (socket) => {
    socket.end(`${at.name} ${socket.remoteAddress?.replace('::ffff:', '') ?? ''}`);
    socket.once('end', () => socket.destroy()).resume();
  });
}

/** Dials, reads what a server of {@link serveSeenAddress} says and closes. */
export async function attempt(from: LabNode, ip: string, port: number, timeoutMs = 30_000): Promise<Attempt> {
  const startedAtMs = Date.now();
  const dialled = formatHostPort({ ip: requireIp(ip), port });
  try {
    const socket = await from.connect({ ip, port, timeoutMs });
    try {
      const answer = (await readToEnd(socket)).toString();
      socket.end();
      return { seenAs: answer, outcome: 'OK', dialled, startedAtMs };
    } finally {
      socket.destroySoon();
    }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return { seenAs: null, outcome: code ?? message, dialled, startedAtMs };
  }
}

function requireIp(text: string): IpAddress {
  const ip = parseIp(text);
  if (ip === undefined) throw new Error(`"${text}" is no IP address`);
  return ip;
}

/**
 * The record that the agent of the client's host wrote of it. Found by what was dialled and when, so two attempts of one
 * workload to one target must not overlap. (A client that is refused at once may never learn its own port.)
 */
export function recordAtSource(mesh: Mesh, from: LabWorkload, made: Attempt): Promise<AccessLogLine> {
  return mesh
    .agent(from.host)
    .waitForRecord(
      `the connection from ${from.meshName} to ${made.dialled}`,
      (line) =>
        line.direction === 'outbound' &&
        line.sourceWorkload === from.meshName &&
        line.requested === made.dialled &&
        Date.parse(line.startedAt) >= made.startedAtMs,
    );
}

/** The record of the same connection at the other agent. */
export function recordAtDestination(mesh: Mesh, to: LabWorkload, atSource: AccessLogLine): Promise<AccessLogLine> {
  return mesh
    .agent(to.host)
    .waitForRecord(
      `the inbound half of ${atSource.traceId}`,
      (line) => line.direction === 'inbound' && line.traceId === atSource.traceId,
    );
}
