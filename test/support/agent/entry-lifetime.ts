import { closeSync } from 'node:fs';
import type { Socket } from 'node:net';
import { openNetns } from '../../../agent/native/netns.js';
import { type SocketAddress, SocketTable } from '../../../agent/native/socket-table.js';
import { capturePorts } from '../../../agent/ports.js';
import { parseIp, type HostPort } from '../../../shared/address.js';
import type { LabNode } from '../../lab/lab-node.js';
import { waitUntil } from '../../lab/wait-until.js';

/** The states whose entries of connection tracking the tests shorten: all in which a connection may stay. */
const states = ['established', 'fin_wait', 'close_wait', 'max_retrans', 'unacknowledged'];

/** From the next packet of a connection on, its entry goes after this time without another one. */
export async function setEntrySeconds(node: LabNode, seconds: number): Promise<void> {
  const settings = states.map((state) => `net.netfilter.nf_conntrack_tcp_timeout_${state}=${seconds}`);
  await node.check(['sysctl', '-qw', ...settings]);
}

const loopback = knownIp('127.0.0.1');

/** The agent has seen the timeouts of the client's namespace, and probes its connection in this time. */
export async function waitForProbes(node: LabNode, client: Socket, withinSeconds: number): Promise<void> {
  // A redirect of what leaves a namespace leads to loopback.
  const agentEnd = { local: { ip: loopback, port: capturePorts.outbound }, remote: localEnd(client) };
  await untilProbed(node, agentEnd, withinSeconds);
}

/** The same for the server's namespace. */
export async function waitForServerProbes(node: LabNode, server: Socket, withinSeconds: number): Promise<void> {
  // The agent dials from the client's address.
  await untilProbed(node, { local: remoteEnd(server), remote: localEnd(server) }, withinSeconds);
}

async function untilProbed(node: LabNode, agentEnd: SocketAddress, withinSeconds: number): Promise<void> {
  const { fd } = openNetns(node.netnsPath);
  const sockets = SocketTable.open(fd);
  closeSync(fd);
  try {
    await waitUntil(`the connection is probed within ${withinSeconds} s`, () => {
      const dueInMs = sockets.find(agentEnd)?.probesInMs ?? null;
      return dueInMs !== null && dueInMs <= withinSeconds * 1000 ? true : undefined;
    });
  } finally {
    sockets.close();
  }
}

export function localEnd(socket: Socket): HostPort {
  return { ip: knownIp(socket.localAddress ?? ''), port: socket.localPort ?? 0 };
}

export function remoteEnd(socket: Socket): HostPort {
  return { ip: knownIp(socket.remoteAddress ?? ''), port: socket.remotePort ?? 0 };
}

function knownIp(text: string): HostPort['ip'] {
  const ip = parseIp(text);
  if (ip === undefined) throw new Error(`no address: ${text}`);
  return ip;
}
