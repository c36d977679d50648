import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isSynQueueRule } from '../../../../agent/capture/firewall/late-accept-rules.js';
import { planWorkloadChains } from '../../../../agent/capture/firewall/workload-rules.js';
import { noExclusions } from '../../../../agent/capture/namespace-capture.js';

const exclusions = { ...noExclusions, excludeOutboundPorts: [3306], excludeOutboundCidrs: ['10.0.0.0/8', 'fd00::/8'] };

function rulesOf(table: string, latePorts: readonly number[], given = exclusions): readonly string[] {
  const chain = planWorkloadChains(4, given, { latePorts }).find(
    (each) => each.table === table && each.hook === 'OUTPUT',
  );
  return (chain?.rules ?? []).map((rule) => rule.replace(/ -m comment --comment "culvert:[a-z-]*"/, ''));
}

test('SYNs to the ports go into the queue, but not those of the agent or of excluded destinations', () => {
  assert.deepEqual(rulesOf('mangle', [80, 3306, 5432]).slice(1), [
    '-p tcp -m tcp ! --syn -j RETURN',
    '-p tcp -m mark --mark 0x539/0xfff -j RETURN',
    '-m addrtype --dst-type LOCAL -j RETURN',
    '-d 10.0.0.0/8 -j RETURN',
    '-p tcp -m tcp --syn -m multiport --dports 80,5432 -j NFQUEUE --queue-num 15002',
  ]);
});

test('a verdict leads to the listener or to a RST, and every other SYN to the listener for all', () => {
  assert.equal(rulesOf('filter', [80]).at(-1), '-p tcp -m tcp --syn -j REJECT --reject-with tcp-reset');
  assert.deepEqual(rulesOf('nat', [80]).slice(-3), [
    '-p tcp -m tcp --syn -m mark --mark 0x53a/0xfff -j REDIRECT --to-ports 15002',
    '-p tcp -m tcp --syn -m mark --mark 0x53b/0xfff -j RETURN',
    '-p tcp -m tcp --syn -j REDIRECT --to-ports 15001',
  ]);
});

test('other sockets on the ports for it get no connection', () => {
  const guarded = planWorkloadChains(4, exclusions, { latePorts: [80] }).find(({ hook }) => hook === 'INPUT');
  for (const rule of guarded?.rules ?? ['']) assert.match(rule, /--dports 15001,15006,15008,15002 /);
});

test('without such a port, or when all of them are excluded, the rules are the same as without late accept', () => {
  assert.deepEqual(planWorkloadChains(4, exclusions, { latePorts: [] }), planWorkloadChains(4, exclusions));
  assert.deepEqual(planWorkloadChains(6, exclusions, { latePorts: [3306] }), planWorkloadChains(6, exclusions));
});

test('any number of ports fits into rules of 15', () => {
  const ports = Array.from({ length: 40 }, (_, index) => 1000 + index);
  const queued = rulesOf('mangle', ports).filter(isSynQueueRule);
  assert.deepEqual(
    queued.map((rule) => /--dports (\S+)/.exec(rule)?.[1]?.split(',').length),
    [15, 15, 10],
  );
  assert.deepEqual(
    queued.flatMap((rule) => /--dports (\S+)/.exec(rule)?.[1]?.split(',').map(Number)),
    ports,
  );
});
