import assert from 'node:assert/strict';
import { parseIp } from '../../../shared/address.js';
import { noExclusions } from '../../../agent/capture/namespace-capture.js';
import { renderRestore, type ChainPlan } from '../../../agent/capture/firewall/chain-plan.js';
import { planClosedChains } from '../../../agent/capture/firewall/closed-rules.js';
import { planHostChains } from '../../../agent/capture/firewall/host-rules.js';
import { ipRoute, ipRule, planWorkloadChains } from '../../../agent/capture/firewall/workload-rules.js';
import { NativeReader } from '../native-reader.js';
import { once, type FuzzTarget } from '../target.js';

const inWorkload = 0;
const inHost = 1;

const reader = once(() =>
  NativeReader.build({
    sources: [
      'test/fuzz/targets/helper-driver.c',
      'agent/native/helper/rule-programs.c',
      'agent/native/helper/restore-text.c',
    ],
    include: 'agent/native',
  }),
);

/** What a client writes for a program: its arguments, an empty one, its input. */
function written(where: number, argv: readonly string[], input = ''): Buffer {
  return Buffer.concat([
    Buffer.of(where),
    Buffer.from(`${argv.map((word) => `${word}\0`).join('')}\0${input}`, 'latin1'),
  ]);
}

function restored(where: number, family: 4 | 6, chains: readonly ChainPlan[]): Buffer {
  const program = family === 6 ? 'ip6tables-nft-restore' : 'iptables-restore';
  return written(where, [program, '--noflush', '-w', '5'], renderRestore(chains, { jumps: {}, absent: ['nat'] }));
}

const exclusions = {
  excludeInboundPorts: [22],
  excludeOutboundPorts: [53, 65_535],
  excludeOutboundCidrs: ['10.0.0.0/8', 'fd00::/8'],
};
const probed = [parseIp('192.0.2.1'), parseIp('2001:db8::1')].filter((address) => address !== undefined);
const probers = [
  { kind: 'uid', uid: 1000 },
  { kind: 'cgroup', path: '/kubelet.service' },
  { kind: 'port', from: 40_000, to: 40_010 },
] as const;

/** A line of what iptables-restore then gets. The patterns are written here a second time, on purpose. */
const lineOfRules =
  /^(?:\*(?:raw|mangle|filter|nat)|COMMIT|:CULVERT_[A-Z0-9_]+ - \[0:0\]|-F CULVERT_[A-Z0-9_]+|-X [A-Z0-9_]+|-A CULVERT_[A-Z0-9_]+ .+|-I (?:PREROUTING|INPUT|OUTPUT|POSTROUTING) 1 .+ -j CULVERT_[A-Z0-9_]+|-D [A-Z0-9_]+ .+)$/;
const builtIn = /^(?:PREROUTING|INPUT|OUTPUT|POSTROUTING)$/;
const longestLine = 1023;

function assertHarmless(line: string, isHost: boolean): void {
  assert.match(line, lineOfRules);
  assert.ok(line.length <= longestLine && /^[\w*.,:/@!\-[\] ]*$/.test(line), line);
  const words = line.split(' ');
  const options = words.filter((word) => /^--?[a-z]/.test(word));
  const known =
    /^(?:-p|-i|-o|-d|-m|-j|--syn|--tcp-flags|--dport|--sport|--dports|--mark|--path|--dst-type|--transparent|--nowildcard|--uid-owner|--ctdir|--comment|--icmp-type|--icmpv6-type|--reject-with|--to-ports|--zone-orig|--notrack|--set-xmark|--queue-num)$/;
  assert.deepEqual(
    options.filter((word) => !known.test(word)),
    [],
    line,
  );
  const [verb, chain = ''] = words;
  if (verb === '-D' && builtIn.test(chain)) assert.match(line, / -j CULVERT_[A-Z0-9_]+/);
  const to = /--to-ports (\S+)/.exec(line)?.[1];
  if (to !== undefined) assert.ok(isHost ? verb === '-D' || to === '15004' : /^150(?:01|02|03|06|04)$/.test(to), line);
  if (!isHost) return;
  if (verb === '-A' && to === undefined) assert.match(line, /-j (?:RETURN|REJECT)/);
}

export const helperTarget: FuzzTarget = {
  name: 'helper',
  reads: 'what a process of the agent that was taken over asks its privileged helper to run (in C)',
  seeds: () => [
    restored(inWorkload, 4, planWorkloadChains(4, noExclusions, { latePorts: [5432], ownCgroup: '/culvert-agent' })),
    restored(inWorkload, 6, planWorkloadChains(6, exclusions, { latePorts: [5432], hasEarlyDemux: true })),
    restored(inWorkload, 6, planClosedChains(6, exclusions)),
    restored(inHost, 4, planHostChains(4, probed, probers)),
    restored(inHost, 6, planHostChains(6, probed, probers)),
    ...[inWorkload, inHost].flatMap((where) => [
      written(
        where,
        ['iptables-restore', '--noflush', '-w', '5'],
        '*nat\n-D OUTPUT -p tcp -m comment --comment "culvert:jump" -j CULVERT_OUTPUT\n-F CULVERT_OUTPUT\n-X CULVERT_OUTPUT\nCOMMIT\n',
      ),
      written(where, ['ip', '-4', '-batch', '-'], `${ipRule('del')}\n${ipRoute('del')}\n`),
      written(where, ['ip', '-6', '-batch', '-'], `${ipRule('add')}\n${ipRoute('add')}\n`),
      written(where, ['iptables-save', '-t', 'nat']),
      written(where, ['sh', '-c', 'echo 0 >/proc/sys/net/ipv4/tcp_early_demux']),
      written(where, ['find-holder', '1', '2']),
    ]),
  ],
  words: [
    '\0',
    '\0\0',
    '\n',
    '"',
    ' ',
    '! ',
    '-j ',
    '-m ',
    '-X OUTPUT\n',
    '-X INPUT\n',
    ' --modprobe=/tmp/x',
    '-A CULVERT_X ',
    '*filter\n',
    'COMMIT\n',
    '--to-ports 15004',
    ':INPUT DROP [0:0]\n',
    '--uid-owner 0 ',
    '-d ::/0 ',
    '0x539/0xfff',
    'iptables-legacy-restore\0',
    '\\',
    '#',
    '\t',
  ],
  check: async (input) => {
    if (input.length === 0) return 'nothing';
    const answer = await reader().ask(input);
    const [verdict, argc = '', ...parts] = answer.split(' ');
    if (verdict !== 'yes') return answer;
    const texts = parts.map((part) => Buffer.from(part, 'hex').toString('latin1'));
    const [argv, rules = ''] = [texts.slice(0, Number(argc)), texts[Number(argc)]];
    const program = argv[0] ?? '';
    const isHost = input[0] === inHost;
    assert.match(program, /^(?:ip6?tables(?:-nft|-legacy)?(?:-save|-restore)?|ip|cat|sh|find-holder|pod-sandboxes)$/);
    if (!program.endsWith('-restore')) return `${program} ${argv.length}`;
    assert.ok(rules.length <= input.length, 'it never becomes longer');
    const lines = rules.split('\n');
    assert.equal(lines.pop(), '');
    for (const line of lines) assertHarmless(line, isHost);
    const again = await reader().ask(written(input[0] ?? 0, argv, rules));
    assert.equal(again, answer, 'what it has written itself it takes as it is');
    return [program, ...new Set(lines.map((line) => line.replace(/\d+/g, '0').slice(0, 40)))].join(' ').slice(0, 200);
  },
};
