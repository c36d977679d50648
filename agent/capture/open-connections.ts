import { capturePorts } from '../ports.js';
import type { CommandRunner } from './firewall/command-runner.js';

/** From include/net/tcp_states.h: neither carries bytes that could still be lost. */
const timeWait = 0x06;
const listening = 0x0a;

/**
 * How many connections the agent holds in a namespace: sockets on its ports there, and those that it dialled to an
 * application with the client's address; without listeners and TIME_WAIT.
 */
export async function countCapturedSockets(runner: CommandRunner, netnsFd: number): Promise<number> {
  const { stdout } = await runner.run({ argv: ['cat', '/proc/net/tcp', '/proc/net/tcp6'], netnsFd });
  return countSockets(stdout);
}

/** `text` in the format of /proc/net/tcp (kernel: Documentation/networking/proc_net_tcp.rst). */
export function countSockets(text: string): number {
  const ports = new Set<number>(Object.values(capturePorts));
  const pairs = new Set<string>();
  let count = 0;
  for (const match of text.matchAll(/^ *\d+: ([0-9A-F]+):([0-9A-F]{4}) ([0-9A-F]+):([0-9A-F]{4}) ([0-9A-F]{2}) /gm)) {
    const [, local = '', localPort = '', remote = '', remotePort = '', stateText = ''] = match;
    const state = Number.parseInt(stateText, 16);
    if (state === timeWait || state === listening) continue;
    if (ports.has(Number.parseInt(localPort, 16))) count++;
    const [here, there] = [`${plainAddress(local)}:${localPort}`, `${plainAddress(remote)}:${remotePort}`];
    // Both sides of it are in this namespace although their addresses differ: so one of them was borrowed.
    if (plainAddress(local) !== plainAddress(remote) && pairs.has(`${there} ${here}`)) count++;
    pairs.add(`${here} ${there}`);
  }
  return count;
}

/** An IPv4 address that a socket of both families shows as ::ffff:a.b.c.d, as a socket of IPv4 alone shows it. */
function plainAddress(hex: string): string {
  return hex.replace(/^0{16}FFFF0000/, '');
}
