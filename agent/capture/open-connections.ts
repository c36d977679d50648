import { capturePorts } from '../dataplane/settings.js';
import type { CommandRunner } from './command-runner.js';

/** From include/net/tcp_states.h: neither carries bytes that could still be lost. */
const timeWait = 0x06;
const listening = 0x0a;

/** How many connections the agent holds in a namespace: sockets on its ports there, without listeners and TIME_WAIT. */
export async function countCapturedSockets(runner: CommandRunner, netnsFd: number): Promise<number> {
  const { stdout } = await runner.run({ argv: ['cat', '/proc/net/tcp', '/proc/net/tcp6'], netnsFd });
  return countSockets(stdout);
}

/** `text` in the format of /proc/net/tcp (kernel: Documentation/networking/proc_net_tcp.rst). */
export function countSockets(text: string): number {
  const ports = new Set<number>(Object.values(capturePorts));
  let count = 0;
  for (const match of text.matchAll(/^ *\d+: [0-9A-F]+:([0-9A-F]{4}) [0-9A-F]+:[0-9A-F]{4} ([0-9A-F]{2}) /gm)) {
    const state = Number.parseInt(match[2] ?? '', 16);
    if (ports.has(Number.parseInt(match[1] ?? '', 16)) && state !== timeWait && state !== listening) count++;
  }
  return count;
}
