import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import {
  chainPrefix,
  type ChainPlan,
  type ExistingTables,
  renderRestore,
  tableNames,
} from '../../../../agent/capture/firewall/chain-plan.js';
import { parseProbers } from '../../../../agent/capture/firewall/probers.js';
import { planHostChains } from '../../../../agent/capture/firewall/host-rules.js';
import { noExclusions } from '../../../../agent/capture/namespace-capture.js';
import { formatHostRules, formatWorkloadRules } from '../../../../agent/capture/firewall/rules-text.js';
import { isSelfTest, selfTestTargets } from '../../../../agent/self-test-target.js';
import { planClosedChains } from '../../../../agent/capture/firewall/closed-rules.js';
import { existingTables } from '../../../../agent/capture/firewall/installed-rules.js';
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
:CULVERT_PREROUTING - [0:0]
:CULVERT_UNTRACKED - [0:0]
-I OUTPUT 1 -p tcp -m comment --comment "culvert:jump" -j CULVERT_OUTPUT
-I PREROUTING 1 ! -p tcp -m comment --comment "culvert:jump" -j CULVERT_PREROUTING
-I OUTPUT 1 ! -p tcp -m comment --comment "culvert:jump" -j CULVERT_UNTRACKED
-A CULVERT_OUTPUT -o lo -p tcp -m mark --mark 0x539/0xfff -m comment --comment "culvert:own-dial-zone" -j CT --zone-orig 1337
-A CULVERT_PREROUTING -p icmp -m icmp --icmp-type 8 -m comment --comment "culvert:untracked" -j CT --notrack
-A CULVERT_PREROUTING -p icmp -m icmp --icmp-type 0 -m comment --comment "culvert:untracked" -j CT --notrack
-A CULVERT_PREROUTING -p icmp -m comment --comment "culvert:about-a-connection" -j RETURN
-A CULVERT_PREROUTING -m comment --comment "culvert:untracked" -j CT --notrack
-A CULVERT_UNTRACKED -p icmp -m icmp --icmp-type 8 -m comment --comment "culvert:untracked" -j CT --notrack
-A CULVERT_UNTRACKED -p icmp -m icmp --icmp-type 0 -m comment --comment "culvert:untracked" -j CT --notrack
-A CULVERT_UNTRACKED -p icmp -m comment --comment "culvert:about-a-connection" -j RETURN
-A CULVERT_UNTRACKED -m comment --comment "culvert:untracked" -j CT --notrack
COMMIT
*mangle
:CULVERT_PREROUTING - [0:0]
:CULVERT_OUTPUT - [0:0]
:CULVERT_POSTROUTING - [0:0]
-I PREROUTING 1 -p tcp -m comment --comment "culvert:jump" -j CULVERT_PREROUTING
-I OUTPUT 1 -p tcp -m comment --comment "culvert:jump" -j CULVERT_OUTPUT
-I POSTROUTING 1 -p tcp -m comment --comment "culvert:jump" -j CULVERT_POSTROUTING
-A CULVERT_PREROUTING -i lo -p tcp -m mark --mark 0x539/0xfff -m comment --comment "culvert:remember-own-dial" -j CONNMARK --set-xmark 0x111/0xfff
-A CULVERT_PREROUTING -i lo -p tcp -m tcp --syn --dport 15008 -m comment --comment "culvert:tunnel-to-itself" -j DROP
-A CULVERT_PREROUTING -i lo -m comment --comment "culvert:loopback" -j RETURN
-A CULVERT_PREROUTING -p tcp -m tcp --dport 9100 -m comment --comment "culvert:excluded-inbound-port" -j RETURN
-A CULVERT_PREROUTING -p tcp -m tcp --syn -m addrtype ! --dst-type LOCAL -m comment --comment "culvert:not-for-this-workload" -j DROP
-A CULVERT_OUTPUT -p tcp -m connmark --mark 0x111/0xfff -m conntrack --ctdir REPLY -m comment --comment "culvert:reply-to-own-dial" -j MARK --set-xmark 0x111/0xfff
-A CULVERT_POSTROUTING ! -o lo -p tcp -m tcp --syn -m addrtype --dst-type LOCAL -m comment --comment "culvert:to-itself-on-wire" -j DROP
COMMIT
*filter
:CULVERT_INPUT - [0:0]
-I INPUT 1 -p tcp -m comment --comment "culvert:jump" -j CULVERT_INPUT
-A CULVERT_INPUT -p tcp -m tcp --syn -m multiport --dports 15001,15006,15008 -m socket --transparent --nowildcard -m comment --comment "culvert:own-listener" -j RETURN
-A CULVERT_INPUT -p tcp -m tcp --syn -m multiport --dports 15001,15006,15008 -m comment --comment "culvert:no-own-listener" -j REJECT --reject-with tcp-reset
COMMIT
*nat
:CULVERT_PREROUTING - [0:0]
:CULVERT_OUTPUT - [0:0]
-I PREROUTING 1 -p tcp -m comment --comment "culvert:jump" -j CULVERT_PREROUTING
-I OUTPUT 1 -p tcp -m comment --comment "culvert:jump" -j CULVERT_OUTPUT
-A CULVERT_PREROUTING -i lo -m comment --comment "culvert:loopback" -j RETURN
-A CULVERT_PREROUTING -p tcp -m tcp --dport 15008 -m comment --comment "culvert:tunnel" -j RETURN
-A CULVERT_PREROUTING -p tcp -m tcp --dport 9100 -m comment --comment "culvert:excluded-inbound-port" -j RETURN
-A CULVERT_PREROUTING -p tcp -m tcp --syn -m addrtype --dst-type LOCAL -m comment --comment "culvert:inbound" -j REDIRECT --to-ports 15006
-A CULVERT_OUTPUT -p tcp -m mark --mark 0x539/0xfff -m comment --comment "culvert:own-traffic" -j ACCEPT
-A CULVERT_OUTPUT -m addrtype --dst-type LOCAL -m comment --comment "culvert:to-itself" -j RETURN
-A CULVERT_OUTPUT -p tcp -m tcp --dport 3306 -m comment --comment "culvert:excluded-outbound-port" -j RETURN
-A CULVERT_OUTPUT -d 10.0.0.0/8 -m comment --comment "culvert:excluded-cidr" -j RETURN
-A CULVERT_OUTPUT -p tcp -m tcp --syn -m comment --comment "culvert:outbound" -j REDIRECT --to-ports 15001
COMMIT
*filter
:CULVERT_REFUSED - [0:0]
-I OUTPUT 1 -p tcp -m comment --comment "culvert:jump" -j CULVERT_REFUSED
-A CULVERT_REFUSED -p tcp -m tcp ! --syn -m comment --comment "culvert:not-a-new-connection" -j RETURN
-A CULVERT_REFUSED -m addrtype --dst-type LOCAL -m comment --comment "culvert:to-itself" -j RETURN
-A CULVERT_REFUSED -p tcp -m mark --mark 0x539/0xfff -m comment --comment "culvert:own-traffic" -j RETURN
-A CULVERT_REFUSED -p tcp -m tcp --dport 3306 -m comment --comment "culvert:excluded-outbound-port" -j RETURN
-A CULVERT_REFUSED -d 10.0.0.0/8 -m comment --comment "culvert:excluded-cidr" -j RETURN
-A CULVERT_REFUSED -p tcp -m tcp --syn -m comment --comment "culvert:not-redirected" -j REJECT --reject-with tcp-reset
COMMIT
`,
  );
  assert.deepEqual(routes[4], [
    'rule add pref 32764 fwmark 0x111/0xfff lookup 111',
    'route add local default dev lo table 111',
  ]);
});

test('where the agent has a cgroup, what has its mark and comes back to its listener is refused first', () => {
  const inputOf = (ownCgroup: string | null): readonly string[] =>
    planWorkloadChains(4, noExclusions, { ownCgroup }).find(({ hook }) => hook === 'INPUT')?.rules ?? [];
  const [first = '', ...others] = inputOf('/agents');
  assert.match(first, /^-i lo .*--syn --dport 15001 -m mark --mark 0x539.* -j REJECT --reject-with tcp-reset$/);
  assert.deepEqual(others, inputOf(null));
});

test('IPv4 and IPv6 differ in the names and numbers of ICMP alone', () => {
  const { v4, v6 } = renderRules(noExclusions);
  const asV4 = v6.replaceAll('ipv6-icmp', 'icmp').replaceAll('-m icmp6 --icmpv6-type', '-m icmp --icmp-type');
  assert.equal(asV4.replaceAll('--icmp-type 128', '--icmp-type 8').replaceAll('--icmp-type 129', '--icmp-type 0'), v4);
});

test('every rule says why it is there, and every chain is recognisably ours', () => {
  for (const family of families) {
    const chains = [
      ...planWorkloadChains(family, noExclusions),
      ...planClosedChains(family, noExclusions),
      ...planHostChains(family, ['198.18.0.9', 'fd00::9'] as IpAddress[], [{ kind: 'uid', uid: 0 }]),
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

test('what refuses connections that were not redirected is away while nat is replaced', () => {
  const jump = (hook: string, chain: string): string => `-A ${hook} -p tcp -j ${chain}`;
  const filter = [jump('INPUT', 'CULVERT_INPUT'), jump('OUTPUT', 'CULVERT_REFUSED')];
  const chains = { filter: ['CULVERT_INPUT', 'CULVERT_REFUSED', 'CULVERT_FORMER'] };
  const nat = [jump('OUTPUT', 'CULVERT_OUTPUT')];
  const stepsFrom = (plans: readonly ChainPlan[], jumps: ExistingTables['jumps']): readonly unknown[] =>
    renderRestore(plans, { jumps, chains, absent: [] })
      .split('COMMIT\n')
      .filter((step) => step.startsWith('*filter') || step.startsWith('*nat'))
      .map((step) => [step.split('\n')[0], (step.match(/^-[DFX] .*$/gm) ?? []).join('; ')]);
  assert.deepEqual(stepsFrom(planWorkloadChains(4, noExclusions), { filter, nat }), [
    ['*filter', '-D INPUT -p tcp -j CULVERT_INPUT; -D OUTPUT -p tcp -j CULVERT_REFUSED'],
    ['*nat', '-D OUTPUT -p tcp -j CULVERT_OUTPUT'],
    ['*filter', '-F CULVERT_FORMER; -X CULVERT_FORMER'],
  ]);
  assert.deepEqual(stepsFrom(planWorkloadChains(4, noExclusions, { isGuarded: false }), { filter, nat }), [
    ['*filter', '-D INPUT -p tcp -j CULVERT_INPUT; -D OUTPUT -p tcp -j CULVERT_REFUSED'],
    ['*nat', '-D OUTPUT -p tcp -j CULVERT_OUTPUT'],
    ['*filter', '-F CULVERT_INPUT; -F CULVERT_FORMER; -X CULVERT_INPUT; -X CULVERT_FORMER'],
  ]);
  const [, , last] = stepsFrom(planWorkloadChains(4, noExclusions), { filter });
  assert.deepEqual(
    last,
    ['*filter', '-D OUTPUT -p tcp -j CULVERT_REFUSED; -F CULVERT_FORMER; -X CULVERT_FORMER'],
    'where nat redirects nothing all is refused until it does again',
  );
});

test('the host leads only what its probers open to the agent, and only to its workloads', () => {
  const addresses = ['198.18.11.2', 'fd00::2', '198.18.11.1', '198.18.11.2'] as IpAddress[];
  const probers = parseProbers(['uid:998', 'cgroup:/system.slice/kubelet.service', 'port:4000-4010', 'port:5']);
  const strength = { isGuarded: true, ownCgroup: '/agents' };
  const [guard, nat, ...others] = planHostChains(4, addresses, probers, strength);
  assert.deepEqual(others, []);
  assert.deepEqual([guard?.table, guard?.hook, guard?.jumpMatch], ['filter', 'INPUT', '-i lo -p tcp']);
  assert.deepEqual([nat?.table, nat?.hook], ['nat', 'OUTPUT']);
  const tail = '-m comment --comment "culvert:host-probe" -j REDIRECT --to-ports 15004';
  assert.deepEqual(
    nat?.rules.filter((rule) => rule.startsWith('-d 198.18.11.1 ')),
    [
      '-m owner --uid-owner 998',
      '-m cgroup --path /system.slice/kubelet.service',
      '--sport 4000:4010',
      '--sport 5:5',
    ].map((match) => `-d 198.18.11.1 -p tcp -m tcp --syn ${match} ${tail}`),
  );
  assert.equal(nat?.rules.length, 10);
  assert.deepEqual(nat?.rules.slice(0, 2), [
    '-p tcp -m mark --mark 0x539/0xfff -m comment --comment "culvert:own-traffic" -j RETURN',
    '-p tcp -m cgroup --path /agents -m comment --comment "culvert:own-traffic" -j RETURN',
  ]);
  assert.deepEqual(planHostChains(6, ['198.18.11.2'] as IpAddress[], probers), []);
  assert.deepEqual(planHostChains(4, addresses, []), [], 'without a prober nothing of the host is exempt');
});

test('what names no program of the host is refused', () => {
  const wrong = [
    'uid:',
    'uid:-1',
    'uid:4294967295',
    'uid:root',
    'cgroup:/',
    'cgroup:kubelet.service',
    'cgroup:/a/../b',
    'cgroup:/a b',
    'cgroup:/a -j ACCEPT',
    'port:0',
    'port:65536',
    'port:20-10',
    'port:1-2-3',
    'kubelet',
    '',
  ];
  for (const text of wrong) assert.throws(() => parseProbers([text]), { code: 'CONFIG_INVALID' }, text);
  assert.throws(() => parseProbers(Array.from({ length: 17 }, () => 'uid:1')), { code: 'CONFIG_INVALID' });
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
  assert.match(formatHostRules(['198.18.11.2' as IpAddress], parseProbers(['uid:998'])), /--uid-owner 998 .* REDIRECT/);
});

test('a workload that is opened stays closed until all else is loaded', () => {
  const jump = '-A OUTPUT -p tcp -m comment --comment "culvert:jump" -j CULVERT_OUTPUT';
  const rules = planClosedChains(4, noExclusions).flatMap(({ chain, rules: all }) =>
    all.map((rule) => `-A ${chain} ${rule}`),
  );
  const chains = new Map(['CULVERT_PREROUTING', 'CULVERT_OUTPUT', 'CULVERT_HOST_7'].map((name) => [name, '-']));
  const tables = new Map([['mangle', { chains, rules: [jump, ...rules] }]]);
  const existing = existingTables(tables, { kind: 'legacy', iptables: { 4: 'iptables', 6: 'ip6tables' } });
  const text = renderRestore(planWorkloadChains(4, noExclusions), { ...existing, marks: ['CULVERT_HOST_7'] });
  assert.deepEqual(text.match(/^\*.*$/gm), ['*raw', '*filter', '*nat', '*filter', '*mangle']);
  assert.deepEqual(text.match(/^-X .*$/gm), ['-X CULVERT_HOST_7'], 'it is in the nat table from now on');
  assert.match(text, /^\*nat\n(?:.*\n)*:CULVERT_HOST_7 /m);
  const closing = renderRestore(planClosedChains(4, noExclusions), {
    jumps: {},
    absent: [],
    marks: ['CULVERT_HOST_7'],
  });
  assert.match(closing, /^\*mangle\n(?:.*\n)*COMMIT\n$/);
  assert.match(closing, /^:CULVERT_HOST_7 /m, 'what removes leftovers finds it');
});

test('a closed workload begins no connection and gets none, but to itself and where capture leaves it alone', () => {
  const exclusions = { excludeOutboundPorts: [25], excludeInboundPorts: [9100], excludeOutboundCidrs: ['fd00::/8'] };
  for (const family of families) {
    const chains = planClosedChains(family, exclusions);
    assert.deepEqual(
      chains.map(({ table, hook }) => `${table} ${hook}`),
      planWorkloadChains(family, exclusions)
        .filter(({ table }) => table === 'mangle')
        .map(({ table, hook }) => `${table} ${hook}`),
      'a table that is removed goes with the chains of its hooks',
    );
    const rules = chains.slice(0, 2).map(({ hook, rules: all }) => ({
      hook,
      passes: all.filter((rule) => rule.endsWith('-j RETURN')).map((rule) => /"culvert:(.*)"/.exec(rule)?.[1]),
      last: all.at(-1),
    }));
    const last = '-p tcp -m tcp --syn -m comment --comment "culvert:closed" -j DROP';
    const cidrs = family === 6 ? ['excluded-cidr'] : [];
    assert.deepEqual(rules, [
      { hook: 'PREROUTING', passes: ['loopback', 'excluded-inbound-port'], last },
      { hook: 'OUTPUT', passes: ['loopback', 'excluded-outbound-port', ...cidrs], last },
    ]);
  }
});
