import { lateAcceptPorts, synMarks, synQueueNumber } from '../../ports.js';
import { because, maskedMark } from './chain-plan.js';

/** As many ports as one rule takes (iptables-extensions(8), multiport). */
const portsPerRule = 15;
const queueTarget = `-j NFQUEUE --queue-num ${synQueueNumber}`;

/**
 * The rules of mangle OUTPUT that put a SYN to one of the ports into the queue, before nat OUTPUT redirects it. Nothing
 * bypasses them: without a reader the kernel drops the SYN, and the client sends it again. `exemptions`: rules for what is
 * not captured.
 */
export function planSynQueue(ports: readonly number[], exemptions: readonly string[]): readonly string[] {
  if (ports.length === 0) return [];
  return [
    `-p tcp -m tcp ! --syn ${because('not-a-new-connection')} -j RETURN`,
    ...exemptions,
    ...chunked(ports).map(
      (some) =>
        `-p tcp -m tcp --syn -m multiport --dports ${some.join(',')} ${because('accepted-late')} ${queueTarget}`,
    ),
  ];
}

const refusedSyn = `-p tcp -m tcp --syn -m mark --mark ${maskedMark(synMarks.refused)} ${because('late-refused')}`;

/**
 * The rules of nat OUTPUT for a SYN that left the queue with a verdict. One without a mark is redirected like all others.
 * One that is refused keeps its destination, and is answered before conntrack keeps it (`unredirected-rules.ts`).
 * Redirected to a port without a listener, it would leave an entry that sends the next connect from the same port of the
 * client there too, for ten seconds, whatever its verdict is.
 */
export function planSynVerdicts(ports: readonly number[]): readonly string[] {
  if (ports.length === 0) return [];
  const accepted = `-p tcp -m tcp --syn -m mark --mark ${maskedMark(synMarks.accepted)} ${because('late-accepted')}`;
  return [`${accepted} -j REDIRECT --to-ports ${lateAcceptPorts.accepted}`, `${refusedSyn} -j RETURN`];
}

/** For mangle POSTROUTING: what `unredirected-rules.ts` did not answer, because its rule is gone, goes nowhere. */
export function planUnansweredSyn(ports: readonly number[]): readonly string[] {
  return ports.length === 0 ? [] : [`${refusedSyn} -j DROP`];
}

/** Whether a rule, as `iptables-save` prints it, puts packets into our queue. */
export function isSynQueueRule(rule: string): boolean {
  return rule.includes(queueTarget);
}

function chunked(ports: readonly number[]): readonly (readonly number[])[] {
  const chunks: (readonly number[])[] = [];
  for (let at = 0; at < ports.length; at += portsPerRule) chunks.push(ports.slice(at, at + portsPerRule));
  return chunks;
}
