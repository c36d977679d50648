import { setTimeout as delay } from 'node:timers/promises';
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

/** How long what the agent still has to say to an application holds up the removal of rules, in milliseconds. */
const lastWordsMs = 1000;

/**
 * For a namespace that no longer redirects: resolves when the agent holds no connection there, or after a second. The last
 * bytes and the end of a connection reach the application only while the kernel translates their addresses, and an application
 * that reads would wait for them for ever.
 */
export async function waitForLastWords(runner: CommandRunner, netnsFd: number): Promise<void> {
  const untilMs = performance.now() + lastWordsMs;
  for (let pauseMs = 10; (await countCapturedSockets(runner, netnsFd)) > 0; pauseMs *= 2) {
    const leftMs = untilMs - performance.now();
    if (leftMs <= 0) return;
    await delay(Math.min(pauseMs, leftMs));
  }
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
