import { capturePorts, lateAcceptPorts } from '../ports.js';
import type { CommandRunner } from './firewall/command-runner.js';

/** From include/net/tcp_states.h. In neither state can bytes still be lost. */
const timeWait = 0x06;
const listening = 0x0a;

/**
 * Counts the connections that the agent holds in a namespace: sockets on its ports there, and those that it dialled to
 * an application from the client's address. Listeners and TIME_WAIT do not count.
 */
export async function countCapturedSockets(runner: CommandRunner, netnsFd: number): Promise<number> {
  const { stdout } = await runner.run({ argv: ['cat', '/proc/net/tcp', '/proc/net/tcp6'], netnsFd });
  return countSockets(stdout);
}

/** `text` in the format of /proc/net/tcp (kernel: Documentation/networking/proc_net_tcp.rst). */
export function countSockets(text: string): number {
  const ports = new Set<number>([...Object.values(capturePorts), lateAcceptPorts.accepted]);
  const pairs = new Set<string>();
  let count = 0;
  for (const match of text.matchAll(/^ *\d+: ([0-9A-F]+):([0-9A-F]{4}) ([0-9A-F]+):([0-9A-F]{4}) ([0-9A-F]{2}) /gm)) {
    const [, local = '', localPort = '', remote = '', remotePort = '', stateText = ''] = match;
    const state = Number.parseInt(stateText, 16);
    if (state === timeWait || state === listening) continue;
    if (ports.has(Number.parseInt(localPort, 16))) count++;
    const [here, there] = [`${plainAddress(local)}:${localPort}`, `${plainAddress(remote)}:${remotePort}`];
    // Both sides of the connection are in this namespace although their addresses differ, so one address was borrowed.
    if (plainAddress(local) !== plainAddress(remote) && pairs.has(`${there} ${here}`)) count++;
    pairs.add(`${here} ${there}`);
  }
  return count;
}

/** Maps an IPv4 address as a dual-stack socket shows it (::ffff:a.b.c.d) to what an IPv4 socket shows. */
function plainAddress(hex: string): string {
  return hex.replace(/^0{16}FFFF0000/, '');
}
