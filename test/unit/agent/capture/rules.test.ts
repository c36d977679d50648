import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { chainPrefix, renderRestore, tableNames } from '../../../../agent/capture/firewall/chain-plan.js';
import { planHostChains } from '../../../../agent/capture/firewall/host-rules.js';
import { noExclusions } from '../../../../agent/capture/namespace-capture.js';
import { formatHostRules, formatWorkloadRules } from '../../../../agent/capture/firewall/rules-text.js';
import { isSelfTest, selfTestTargets } from '../../../../agent/self-test-target.js';
import { planWorkloadChains, renderRules } from '../../../../agent/capture/firewall/workload-rules.js';
import { capturePorts } from '../../../../agent/ports.js';
import type { IpAddress } from '../../../../shared/address.js';
import { CulvertError } from '../../../../shared/errors.js';

const families = [4, 6] as const;

test('the IPv4 rules of a workload with exclusions are these', () => {
  const { v4, routes } = renderRules({
    excludeOutboundPorts: [3306],
    excludeInboundPorts: [9100],
    excludeOutboundCidrs: ['10.0.0.0/8', 'fd00::/8'],
  });
  assert.equal(
    v4,
    `*raw
:CULVERT_OUTPUT - [0:0]
-I OUTPUT 1 -p tcp -m comment --comment "culvert:jump" -j CULVERT_OUTPUT
-A CULVERT_OUTPUT -o lo -p tcp -m mark --mark 0x539/0xfff -m comment --comment "culvert:own-dial-zone" -j CT --zone-orig 1337
COMMIT
*mangle
:CULVERT_PREROUTING - [0:0]
:CULVERT_OUTPUT - [0:0]
-I PREROUTING 1 -p tcp -m comment --comment "culvert:jump" -j CULVERT_PREROUTING
-I OUTPUT 1 -p tcp -m comment --comment "culvert:jump" -j CULVERT_OUTPUT
-A CULVERT_PREROUTING -i lo -p tcp -m mark --mark 0x539/0xfff -m comment --comment "culvert:remember-own-dial" -j CONNMARK --set-xmark 0x111/0xfff
-A CULVERT_PREROUTING -i lo -m comment --comment "culvert:loopback" -j RETURN
-A CULVERT_PREROUTING -p tcp -m tcp --dport 9100 -m comment --comment "culvert:excluded-inbound-port" -j RETURN
-A CULVERT_PREROUTING -p tcp -m tcp --syn -m addrtype ! --dst-type LOCAL -m comment --comment "culvert:not-for-this-workload" -j DROP
-A CULVERT_OUTPUT -p tcp -m connmark --mark 0x111/0xfff -m conntrack --ctdir REPLY -m comment --comment "culvert:reply-to-own-dial" -j MARK --set-xmark 0x111/0xfff
COMMIT
*filter
:CULVERT_INPUT - [0:0]
-I INPUT 1 -p tcp -m comment --comment "culvert:jump" -j CULVERT_INPUT
-A CULVERT_INPUT -p tcp -m tcp --syn -m multiport --dports 15001,15008 -m socket --transparent --nowildcard -m comment --comment "culvert:own-listener" -j RETURN
-A CULVERT_INPUT -p tcp -m tcp --syn -m multiport --dports 15001,15008 -m comment --comment "culvert:no-own-listener" -j REJECT --reject-with tcp-reset
COMMIT
*nat
:CULVERT_PREROUTING - [0:0]
:CULVERT_OUTPUT - [0:0]
-I PREROUTING 1 -p tcp -m comment --comment "culvert:jump" -j CULVERT_PREROUTING
-I OUTPUT 1 -p tcp -m comment --comment "culvert:jump" -j CULVERT_OUTPUT
-A CULVERT_PREROUTING -i lo -m comment --comment "culvert:loopback" -j RETURN
-A CULVERT_PREROUTING -p tcp -m tcp --dport 15008 -m comment --comment "culvert:tunnel" -j RETURN
-A CULVERT_PREROUTING -s 169.254.7.127 -p tcp -m comment --comment "culvert:host-probe" -j ACCEPT
-A CULVERT_PREROUTING -p tcp -m tcp --dport 9100 -m comment --comment "culvert:excluded-inbound-port" -j RETURN
-A CULVERT_PREROUTING -p tcp -m tcp --syn -m addrtype --dst-type LOCAL -m comment --comment "culvert:inbound" -j REDIRECT --to-ports 15006
-A CULVERT_OUTPUT -p tcp -m mark --mark 0x539/0xfff -m comment --comment "culvert:own-traffic" -j ACCEPT
-A CULVERT_OUTPUT -m addrtype --dst-type LOCAL -m comment --comment "culvert:to-itself" -j RETURN
-A CULVERT_OUTPUT -p tcp -m tcp --dport 3306 -m comment --comment "culvert:excluded-outbound-port" -j RETURN
-A CULVERT_OUTPUT -d 10.0.0.0/8 -m comment --comment "culvert:excluded-cidr" -j RETURN
-A CULVERT_OUTPUT -p tcp -m tcp --syn -m comment --comment "culvert:outbound" -j REDIRECT --to-ports 15001
COMMIT
`,
  );
  assert.deepEqual(routes[4], [
    'rule add pref 32764 fwmark 0x111/0xfff lookup 111',
    'route add local default dev lo table 111',
  ]);
});

test('IPv4 and IPv6 differ only in addresses', () => {
  const { v4, v6 } = renderRules(noExclusions);
  assert.equal(v6.replace('fd16:9254:7127:1337:ffff:ffff:ffff:ffff', '169.254.7.127'), v4);
});

test('every rule says why it is there, and every chain is recognisably ours', () => {
  for (const family of families) {
    const chains = [
      ...planWorkloadChains(family, noExclusions),
      ...planHostChains(family, ['198.18.0.9', 'fd00::9'] as IpAddress[]),
    ];
    for (const { chain, rules } of chains) {
      assert.ok(chain.startsWith(chainPrefix));
      for (const rule of rules) assert.match(rule, / --comment "culvert:[a-z-]+" -j /);
    }
  }
});

test('whatever is excluded, redirects take SYN only, come last, and own traffic is let out first', () => {
  const port = fc.integer({ min: 1, max: 65_535 });
  const cidr = fc.constantFrom('10.0.0.0/8', '198.18.0.0/15', '192.0.2.7', 'fd00::/8', '::/0');
  const exclusions = fc.record({
    excludeOutboundPorts: fc.array(port),
    excludeInboundPorts: fc.array(port),
    excludeOutboundCidrs: fc.array(cidr),
  });
  fc.assert(
    fc.property(exclusions, fc.constantFrom(...families), (given, family) => {
      const nat = planWorkloadChains(family, given).filter(({ table }) => table === 'nat');
      for (const { hook, rules } of nat) {
        const redirects = rules.filter((rule) => rule.includes('REDIRECT'));
        assert.equal(redirects.length, 1);
        assert.equal(rules.at(-1), redirects[0]);
        assert.match(redirects[0] ?? '', /--syn /);
        if (hook === 'OUTPUT') assert.match(rules[0] ?? '', /0x539.* -j ACCEPT$/);
      }
      const text = nat.flatMap(({ rules }) => rules).join('\n');
      for (const each of given.excludeInboundPorts) assert.ok(text.includes(`--dport ${each} `));
      assert.equal(/-d [^ ]*:/.test(text), family === 6 && given.excludeOutboundCidrs.some((c) => c.includes(':')));
    }),
  );
});

test('exclusions that are no ports or prefixes are refused with a hint', () => {
  const refused = (exclusions: Partial<typeof noExclusions>): void =>
    assert.throws(
      () => renderRules({ ...noExclusions, ...exclusions }),
      (error) => error instanceof CulvertError && error.code === 'CAPTURE_EXCLUSION' && error.hint !== undefined,
    );
  refused({ excludeInboundPorts: [0] });
  refused({ excludeOutboundPorts: [65_536] });
  refused({ excludeOutboundPorts: [1.5] });
  refused({ excludeOutboundCidrs: ['10.0.0.1/8'] });
  refused({ excludeOutboundCidrs: ['1.2.3.4/8 -j ACCEPT'] });
});

test('jumps that are there are taken out in the same transaction that puts them first', () => {
  const jump = '-A OUTPUT -p tcp -m comment --comment "culvert:jump" -j CULVERT_OUTPUT';
  const text = renderRestore(planWorkloadChains(4, noExclusions), { jumps: { nat: [jump, jump] }, absent: ['raw'] });
  const nat = text.slice(text.indexOf('*nat'));
  assert.equal(nat.split(jump.replace('-A', '-D')).length, 3);
  assert.ok(nat.indexOf('-D OUTPUT') < nat.indexOf('-I OUTPUT'));
  assert.equal(text.match(/:CULVERT_MADE_TABLE/g)?.length, 1);
  assert.ok(text.indexOf('MADE_TABLE') < text.indexOf('*mangle'), 'raw is marked as made by us');
});

test('ways home, and what refuses foreign listeners, are loaded before connections are taken', () => {
  assert.deepEqual([...tableNames], ['raw', 'mangle', 'filter', 'nat']);
});

test('the host exempts only what its own sockets open, and only to its workloads', () => {
  const chains = planHostChains(4, ['198.18.11.2', 'fd00::2', '198.18.11.1', '198.18.11.2'] as IpAddress[]);
  const nat = chains.find(({ table }) => table === 'nat');
  assert.match(nat?.jumpMatch ?? '', /--socket-exists/);
  assert.deepEqual(
    nat?.rules.map((rule) => rule.split(' ')[1]),
    ['198.18.11.1', '198.18.11.2'],
  );
  assert.deepEqual(planHostChains(6, ['198.18.11.2'] as IpAddress[]), []);
});

test('a self-test is recognised by address and port together', () => {
  for (const family of families) {
    const { ip, port } = selfTestTargets[family];
    assert.ok(isSelfTest({ ip, port }));
    assert.ok(!isSelfTest({ ip, port: port + 1 }));
    assert.ok(!isSelfTest({ ip: '198.18.0.1' as IpAddress, port }));
    assert.ok(!(Object.values(capturePorts) as number[]).includes(port));
  }
});

test('what is printed are commands that a person could run', () => {
  const text = formatWorkloadRules({ netnsPath: '/run/netns/web', exclusions: noExclusions });
  assert.match(text, /^nsenter --net=\/run\/netns\/web iptables-restore --noflush -w 5 <<'END'$/m);
  assert.match(text, /^nsenter --net=\/run\/netns\/web ip6tables-restore --noflush -w 5 <<'END'$/m);
  assert.match(formatHostRules(['198.18.11.2' as IpAddress]), /SNAT --to-source 169\.254\.7\.127/);
});

test('after the first of two loads all is captured but connections from the workloads that arrive too', () => {
  const openTo = ['198.18.10.3', 'fd00::3'] as IpAddress[];
  for (const family of [4, 6] as const) {
    const rulesOf = (sources: readonly IpAddress[]): string[] =>
      planWorkloadChains(family, noExclusions, [], sources).flatMap(({ table, chain, rules }) =>
        rules.map((rule) => `${table} ${chain} ${rule}`),
      );
    const [half, whole] = [rulesOf(openTo), rulesOf([])];
    const added = half.filter((rule) => !whole.includes(rule));
    assert.deepEqual(added, [
      `nat CULVERT_PREROUTING -s ${openTo[family === 4 ? 0 : 1]} -p tcp -m tcp --syn -m comment --comment "culvert:arrives-too" -j RETURN`,
    ]);
    assert.deepEqual(
      half.filter((rule) => !added.includes(rule)),
      whole,
      'strangers find it captured',
    );
    const redirect = half.findIndex((rule) => rule.includes('culvert:inbound"'));
    assert.equal(half.indexOf(added[0] ?? ''), redirect - 1);
  }
});
