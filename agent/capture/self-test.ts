import { closeSync } from 'node:fs';
import { Socket, type SocketConstructorOpts } from 'node:net';
import { CulvertError } from '../../shared/errors.js';
import { cidrContains, ipBytes } from '../../shared/address.js';
import type { CaptureExclusions } from '../../shared/routing/registry-entry.js';
import { resetSocket } from '../native/addon.js';
import { dialSocket } from '../native/dial-sockets.js';
import { selfTestTargets } from '../self-test-target.js';
import { excludedCidrs } from './firewall/workload-rules.js';

/**
 * `captured`: our listener accepted the connection and closed it. `unanswered`: something accepted it and did not close
 * it in time: an overloaded data plane, or a foreign listener. `refused`: nothing listens on 15001, or it was not
 * redirected and our rules refused it for that, or they are gone and a router answered. `escaped`: the connection left
 * the namespace. `no-route`: this family cannot leave it. `excluded`: the test address is among the workload's
 * exclusions, so the test says nothing.
 */
export type SelfTestResult = 'captured' | 'unanswered' | 'refused' | 'escaped' | 'no-route' | 'excluded';

/**
 * Dials an address that cannot exist, from inside the namespace, as an application would. Throws only if no socket can
 * be created there (see `dialSocket`).
 */
export async function probeCapture(o: {
  readonly netnsFd: number;
  readonly family: 4 | 6;
  readonly exclusions: CaptureExclusions;
  readonly timeoutMs: number;
}): Promise<SelfTestResult> {
  const { ip, port } = selfTestTargets[o.family];
  const isExcluded =
    o.exclusions.excludeOutboundPorts.includes(port) ||
    excludedCidrs(o.family, o.exclusions).some((cidr) => cidrContains(cidr, ipBytes(ip)));
  if (isExcluded) return 'excluded';
  const socket = openSocket(o.netnsFd, o.family);
  if (socket === undefined) return 'no-route';
  return await new Promise((resolve) => {
    let isConnected = false;
    let hasLeft = true;
    const finish = (result: SelfTestResult): void => {
      clearTimeout(deadline);
      // RST leaves no socket in TIME_WAIT, however often this runs.
      if (isConnected) resetSocket(socket);
      else socket.destroy();
      resolve(result);
    };
    const deadline = setTimeout(() => finish(isConnected ? 'unanswered' : 'escaped'), o.timeoutMs);
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (isConnected) finish('captured');
      else finish(resultOfDialError(error.code, hasLeft));
    });
    socket.once('end', () => finish('captured'));
    socket.connect({ host: ip, port }, () => {
      isConnected = true;
      socket.resume();
    });
    // Node calls connect(2) in the next tick. An error in that call comes from this namespace. A later error is an
    // answer from outside, and routers cause the same codes (ICMP unreachable).
    process.nextTick(() => {
      hasLeft = !socket.destroyed;
    });
  });
}

function openSocket(netnsFd: number, family: 4 | 6): Socket | undefined {
  let fd: number;
  try {
    fd = dialSocket({ netnsFd, family, mark: 0 });
  } catch (error) {
    if (error instanceof CulvertError && error.code === 'EAFNOSUPPORT') return undefined;
    throw error;
  }
  try {
    // `manualStart` is not in Node's type definitions. Without it Node would read before the socket is connected.
    const init: SocketConstructorOpts & { manualStart: true } = { fd, manualStart: true, allowHalfOpen: true };
    return new Socket(init);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function resultOfDialError(code: string | undefined, hasLeft: boolean): SelfTestResult {
  if (code === 'ECONNREFUSED' || code === 'ECONNRESET') return 'refused';
  // No route, or no source address in this family.
  const isLocal =
    code === 'ENETUNREACH' || code === 'EHOSTUNREACH' || code === 'EADDRNOTAVAIL' || code === 'EAFNOSUPPORT';
  return isLocal && !hasLeft ? 'no-route' : 'escaped';
}

/** What is wrong, for each result that is not as it should be. */
export const selfTestProblems: Partial<Record<SelfTestResult, string>> = {
  escaped:
    'a test connection left the namespace although the rules are in place: is lo up, or does another rule come first?',
  refused:
    "a test connection was refused: the agent's data plane does not listen on port 15001 for this workload, or another rule comes before the redirect",
  unanswered: 'the listener on port 15001 was slow to answer a test connection',
};
