import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chownSync,
  lchownSync,
  linkSync,
  mkdtempSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ipRoute, ipRule, planWorkloadChains } from '../../../../agent/capture/firewall/workload-rules.js';
import { planClosedChains } from '../../../../agent/capture/firewall/closed-rules.js';
import { planHostChains } from '../../../../agent/capture/firewall/host-rules.js';
import { renderRestore } from '../../../../agent/capture/firewall/chain-plan.js';
import { noExclusions } from '../../../../agent/capture/namespace-capture.js';
import { parseIp } from '../../../../shared/address.js';
import { capturePorts, hostPorts, lateAcceptPorts, ownTrafficMark, synQueueNumber } from '../../../../agent/ports.js';
import { labUser } from '../../../lab/programs.js';
import { askConfined, type Outcome } from '../../../support/agent/confined-process.js';

const name = `hlp${randomBytes(3).toString('hex')}`;
const netnsPath = `/run/netns/${name}`;
before(() => execFileSync('sh', ['-ec', `ip netns add ${name}; ip -n ${name} link set lo up`]));
after(() => execFileSync('ip', ['netns', 'del', name]));

/** Where the root of what a process sees of cgroups is the host's. */
const isOutsideContainers = readlinkSync('/proc/self/ns/cgroup') === 'cgroup:[4026531835]';

const listen = (port: number, netnsFd: string): string =>
  `addon.closeFd(addon.listenTcp({ netnsFd: ${netnsFd}, host: '127.0.0.1', port: ${port}, backlog: 1, reusePort: false }))`;
const dial = (how: string): string =>
  `addon.closeFd(addon.dialSocket({ family: 4, mark: 0, netnsFd: netns.fd, ${how} }))`;
/** Sockets that can have any address, for dials to come. */
const spares = (count: number, netnsFd = 'netns.fd'): string =>
  `addon.spareSockets({ family: 4, mark: ${ownTrafficMark}, netnsFd: ${netnsFd}, count: ${count} })`;
const watchConnections = (netnsFd: string): string =>
  `addon.closeFd(addon.callAddon('x', (native) => native.watchConnections(${netnsFd})))`;

describe('the process that parses the network', () => {
  let found: Readonly<Record<string, Outcome>>;
  before(async () => {
    found = await askConfined(
      {
        threads:
          "fs.readdirSync('/proc/self/task').map((id) => fs.readFileSync(`/proc/self/task/${id}/status`, 'utf8').match(/^(Uid|Groups|Cap(Inh|Prm|Eff|Amb)|NoNewPrivs|Seccomp):.*$/gm))",
        program: "cp.spawnSync('/bin/true').error?.code",
        shadow: "fs.readFileSync('/etc/shadow')",
        helper: "process.kill(child.pid, 'SIGKILL')",
        root: 'process.setuid(0)',
        other: "fs.readlinkSync('/proc/1/ns/net')",
      },
      netnsPath,
    );
  });

  test('is not root, and no thread of it has a capability or gets one', () => {
    const threads = found['threads']?.value as string[][];
    assert.ok(threads.length > 4, JSON.stringify(found['threads']));
    for (const lines of threads) {
      assert.equal(lines[0]?.split('\t')[1], String(labUser.uid));
      assert.deepEqual(
        lines.filter((line) => line.startsWith('Cap')).map((line) => Number.parseInt(line.split('\t')[1] ?? '1', 16)),
        [0, 0, 0, 0],
      );
      assert.ok(lines.includes('NoNewPrivs:\t1') && lines.includes('Seccomp:\t2'), lines.join());
    }
  });

  test('starts no program, becomes no other user, and reads or ends nothing of root', () => {
    assert.equal(found['program']?.value, 'EPERM');
    assert.equal(found['root']?.code, 'EPERM');
    assert.equal(found['helper']?.code, 'EPERM');
    assert.equal(found['shadow']?.code, 'EACCES');
    assert.equal(found['other']?.code, 'EACCES');
  });
});

test('the helper makes the sockets of the agent, and no others', async () => {
  const allowed: Record<string, string> = {
    ...Object.fromEntries(
      [...Object.values(capturePorts), lateAcceptPorts.accepted].map((port) => [
        `listen ${port}`,
        listen(port, 'netns.fd'),
      ]),
    ),
    probes: listen(hostPorts.probes, 'null'),
    dial: dial(`mark: ${ownTrafficMark}, transparentSource: '203.0.113.7', sourcePort: 4000`),
    'sockets ahead of their connections': `assert.equal(${spares(16)}.length, 16)`,
    'dial at home': dial(`mark: ${ownTrafficMark}, netnsFd: null`),
    counts: "addon.readProcFile({ netnsFd: netns.fd, path: '/proc/thread-self/net/sockstat' }).length > 0",
    setting: "addon.readProcFile({ netnsFd: netns.fd, path: '/proc/sys/net/ipv4/ip_local_port_range' }).length > 0",
    watch: "addon.closeFd(addon.watchChanges({ netnsFd: netns.fd, of: 'routes' }))",
    'new connections': watchConnections('netns.fd'),
    conntrack: `addon.isTracked({ conntrackFd: addon.openConntrack({ netnsFd: netns.fd }), server: { ip: '127.0.0.1', port: 1 }, client: { ip: '127.0.0.1', port: 2 } })`,
    'a namespace of a process': 'addon.closeFd(addon.openNetns(`/proc/${process.ppid}/ns/net`).fd)',
  };
  const refused: Record<string, string> = {
    'another port': listen(80, 'netns.fd'),
    'a port of the host': listen(80, 'null'),
    'capture of the host': listen(capturePorts.outbound, 'null'),
    'another mark': dial('mark: 1'),
    'new connections of the host': watchConnections('-1'),
    'more sockets at a time': spares(17),
    'no socket': spares(0),
    'sockets ahead, at home': spares(2, 'null'),
    'a borrowed address at home': dial("netnsFd: null, transparentSource: '203.0.113.7'"),
    'a file': "addon.readProcFile({ netnsFd: null, path: '/etc/shadow' })",
    'a way out': "addon.readProcFile({ netnsFd: null, path: '/proc/sys/net/../kernel/hostname' })",
    'what is no namespace':
      "addon.listenTcp({ netnsFd: fs.openSync('/dev/null'), host: '::', port: 15001, backlog: 1, reusePort: false })",
  };
  const found = await askConfined({ ...allowed, ...refused }, netnsPath);
  for (const question of Object.keys(allowed))
    assert.equal(found[question]?.code, undefined, `${question}: ${JSON.stringify(found[question])}`);
  for (const question of Object.keys(refused)) {
    assert.equal(found[question]?.code, 'EPERM', `${question}: ${JSON.stringify(found[question])}`);
    assert.match(found[question]?.message ?? '', /the privileged helper refuses /);
  }
});

test('the helper opens namespaces where namespaces are, and asks no other file system', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'culvert-place-'));
  const place = join(directory, 'place');
  writeFileSync(place, '');
  execFileSync('mount', ['--bind', netnsPath, place]);
  try {
    const open = (path: string): string =>
      `addon.closeFd(addon.callAddon('x', (native) => native.openNetnsFile(${JSON.stringify(path)})))`;
    const allowed = [
      netnsPath,
      `//run/./netns/${name}`,
      `/var/run/netns/${name}`,
      place,
      `/proc/${process.pid}/ns/net`,
    ];
    const seenByOther = `/proc/${process.pid}/root${place}`;
    const refused = [
      '/etc/shadow',
      '/dev/null',
      `/run/netns/../../etc/shadow`,
      `/run/netns/${name}/x`,
      '/proc/self/root/etc/shadow',
      '/proc/self/fd/3',
      `/proc/${process.pid}/../../etc/shadow`,
      directory,
    ];
    const paths = [...allowed, seenByOther, ...refused];
    const found = await askConfined(Object.fromEntries(paths.map((path) => [path, open(path)])), netnsPath);
    for (const path of [...allowed, seenByOther])
      assert.equal(found[path]?.code, undefined, JSON.stringify(found[path]));
    for (const path of refused) assert.equal(found[path]?.code, 'EPERM', `${path}: ${JSON.stringify(found[path])}`);
  } finally {
    execFileSync('umount', [place]);
    rmSync(directory, { recursive: true });
  }
});

test("the helper reads the token file, also through a link of root's, and no file that the agent's user has put in its place", async () => {
  const directory = mkdtempSync(join(tmpdir(), 'culvert-token-'));
  try {
    chownSync(directory, labUser.uid, labUser.gid);
    const [secret, token] = [join(directory, 'secret'), join(directory, 'token')];
    writeFileSync(secret, 'the token', { mode: 0o600 });
    const read = { it: `addon.readProcFile({ netnsFd: null, path: ${JSON.stringify(token)} }).toString()` };
    const asked = async (): Promise<Outcome | undefined> => (await askConfined(read, netnsPath, token))['it'];
    symlinkSync(secret, token);
    assert.equal((await asked())?.value, 'the token');
    lchownSync(token, labUser.uid, labUser.gid);
    assert.equal((await asked())?.code, 'EPERM');
    unlinkSync(token);
    linkSync(secret, token);
    assert.equal((await asked())?.code, 'EPERM');
    unlinkSync(secret);
    assert.equal((await asked())?.value, 'the token');
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('the helper runs what capture runs, and nothing that only looks like it', async () => {
  const text = renderRestore(planWorkloadChains(4, noExclusions, { latePorts: [5432], ownCgroup: '/culvert-agent' }), {
    jumps: {},
    absent: ['nat'],
    marks: ['CULVERT_HOST_1'],
  });
  const lines = JSON.stringify(text.trimEnd().split('\n'));
  const exclusions = {
    excludeInboundPorts: [22],
    excludeOutboundPorts: [53, 65_535],
    excludeOutboundCidrs: ['10.0.0.0/8', 'fd00::/8', '2001:db8::1/128'],
  };
  const load6 = (chains: Parameters<typeof renderRestore>[0]): string =>
    `run(['ip6tables-restore', '--noflush', '-w', '5'], ${JSON.stringify(renderRestore(chains, { jumps: {}, absent: [] }))})`;
  const rule = (line: string): string =>
    `restore('*filter', ':CULVERT_INPUT - [0:0]', ${JSON.stringify(line)}, 'COMMIT')`;
  const allowed = {
    version: "run(['iptables', '-V'])",
    table: "run(['iptables-save', '-t', 'nat'])",
    sockets: "run(['cat', '/proc/net/tcp', '/proc/net/tcp6'])",
    // The cgroup need not exist: that is iptables' word, not the helper's.
    rules: `restore(...${lines})`,
    'rules of IPv6': load6(planWorkloadChains(6, exclusions, { latePorts: [5432], hasEarlyDemux: true })),
    'rules of a closed workload': load6(planClosedChains(6, exclusions)),
    'the end of some': `restore('*mangle', '-D CULVERT_OUTPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -m multiport --dports 5432 -m comment --comment "culvert:accepted-late" -j NFQUEUE --queue-num 15002', '-F CULVERT_X', '-X CULVERT_X', '-X OUTPUT', 'COMMIT')`,
    routes: `run(['ip', '-4', '-batch', '-'], ${JSON.stringify(`${ipRule('add')}\n${ipRoute('add')}\n${ipRule('del')}\n${ipRoute('del')}\n`)})`,
  };
  const refused = {
    shell: "run(['sh', '-c', 'id'])",
    'a longer script': "run(['sh', '-c', 'echo 0 >/proc/sys/net/ipv4/tcp_early_demux; id'])",
    'another file': "run(['cat', '/etc/shadow'])",
    'another program': "run(['bash', '-c', 'id'])",
    'a path': "run(['/tmp/iptables', '-V'])",
    'another option': "run(['iptables-restore', '--noflush', '-w', '5', '--modprobe=/bin/true'])",
    'a flush': "run(['iptables-restore', '-w', '5'], '*filter\\nCOMMIT\\n')",
    'a program to load modules': rule('-A CULVERT_INPUT -p tcp --modprobe=/tmp/x -j DROP'),
    ...(isOutsideContainers
      ? { 'the root of all cgroups': rule('-A CULVERT_INPUT -p tcp -m cgroup --path / -j RETURN') }
      : {}),
    'the same, quoted': rule('-A CULVERT_INPUT -p tcp "--modprobe=/tmp/x" -j DROP'),
    'the same, shortened': rule('-A CULVERT_INPUT -p tcp --modp /tmp/x -j DROP'),
    'the same, in one letter': rule('-A CULVERT_INPUT -p tcp -M /tmp/x -j DROP'),
    'the same, after a quote within a word': rule(
      '-A CULVERT_INPUT -p tcp -m comment --comment a" --modprobe=/tmp/x "b -j DROP',
    ),
    'the same, escaped': rule('-A CULVERT_INPUT -m comment --comment "a\\" --modprobe=/tmp/x \\"b" -j DROP'),
    'the same, after a tab': rule('-A CULVERT_INPUT -p tcp\\t--modprobe=/tmp/x -j DROP'),
    'a match of a file': rule('-A CULVERT_INPUT -m bpf --object-pinned /sys/fs/bpf/x -j DROP'),
    'a library elsewhere': rule('-A CULVERT_INPUT -m ../../tmp/x -j DROP'),
    "another's chain": rule('-A INPUT -p tcp -j ACCEPT'),
    "another's rule": rule('-D INPUT -p tcp -j DROP'),
    'a policy': "restore('*filter', ':INPUT DROP [0:0]', 'COMMIT')",
    'the end of a table': rule('-F INPUT'),
    'a route': `run(['ip', '-4', '-batch', '-'], 'route add default dev lo\\n')`,
    'a queue of another': rule('-A CULVERT_INPUT -j LOG --log-prefix x'),
    // iptables-restore takes what is beyond 10239 bytes for the next line.
    'a line that iptables reads as two': rule(
      `-A CULVERT_INPUT -p tcp -m comment --comment "${'a'.repeat(10_239 - 51)}-I INPUT 1 -j ACCEPT"`,
    ),
    'a long line': rule(`-A CULVERT_INPUT -p tcp -m multiport --dports ${'1,'.repeat(600)}1 -j DROP`),
    'a long comment': rule(`-A CULVERT_INPUT -p tcp -m comment --comment "culvert:${'a'.repeat(250)}" -j DROP`),
    'a comment of another': rule('-A CULVERT_INPUT -p tcp -m comment --comment "x" -j DROP'),
    'an option twice': rule('-A CULVERT_INPUT -p tcp -m tcp --dport 1 --dport 2 -j DROP'),
    'a match twice': rule('-A CULVERT_INPUT -p tcp -m tcp --dport 1 -m tcp --dport 2 -j DROP'),
    'a rule without a target': rule('-A CULVERT_INPUT -p tcp'),
    'two targets': rule('-A CULVERT_INPUT -p tcp -j RETURN -j DROP'),
    'an option of another match': rule('-A CULVERT_INPUT -p tcp --dport 1 -j DROP'),
    'no number': rule('-A CULVERT_INPUT -p tcp -m tcp --dport 1x -j DROP'),
    'a name': rule('-A CULVERT_INPUT -d example.org -p tcp -j DROP'),
    'another protocol': rule('-A CULVERT_INPUT -p udp -j DROP'),
    'a port that is not ours': rule('-A CULVERT_INPUT -p tcp -j REDIRECT --to-ports 9999'),
    'the port of before': rule('-A CULVERT_INPUT -p tcp -j REDIRECT'),
    'a mark of another': rule('-A CULVERT_INPUT -p tcp -m mark --mark 0x1/0xfff -j DROP'),
    'a mark for another': rule('-A CULVERT_INPUT -p tcp -j MARK --set-xmark 0x1/0x1'),
    'a queue that is not ours': rule('-A CULVERT_INPUT -p tcp -j NFQUEUE --queue-num 0'),
    'a jump of some traffic': rule('-I INPUT 1 -p tcp -m tcp --dport 22 -j CULVERT_INPUT'),
    'no end': "restore('*filter', ':CULVERT_INPUT - [0:0]')",
    'a rule without a table': "restore('-A CULVERT_INPUT -p tcp -j DROP')",
  };
  const found = await askConfined({ ...allowed, ...refused }, netnsPath);
  for (const question of Object.keys(allowed))
    assert.equal(found[question]?.code, undefined, `${question}: ${JSON.stringify(found[question])}`);
  for (const question of Object.keys(refused)) {
    assert.equal(found[question]?.code, 'EPERM', `${question}: ${JSON.stringify(found[question])}`);
  }
  assert.deepEqual(found['routes']?.value, { code: 0, stdout: '', stderr: '' });
});

test("in the host's namespace only what host capture does is done", async () => {
  const load = (lines: readonly string[]): string =>
    `run(['iptables-restore', '--noflush', '-w', '5'], ${JSON.stringify(lines.map((line) => `${line}\n`).join(''))}, null)`;
  const inNat = (...lines: string[]): string => load(['*nat', ':CULVERT_OUTPUT - [0:0]', ...lines, 'COMMIT']);
  const address = parseIp('192.0.2.1') ?? assert.fail();
  const plans = planHostChains(
    4,
    [address],
    [
      { kind: 'uid', uid: 0 },
      { kind: 'port', from: 40_000, to: 40_010 },
    ],
  );
  const text = renderRestore(plans, { jumps: {}, absent: ['nat', 'filter'] });
  const probe = '-A CULVERT_OUTPUT -d 192.0.2.1 -p tcp -m tcp --syn';
  const allowed = {
    rules: load(text.trimEnd().split('\n')),
    removal: load(['*nat', '-D OUTPUT -p tcp -m comment --comment "culvert:jump" -j CULVERT_OUTPUT', 'COMMIT']),
    routes: `run(['ip', '-4', '-batch', '-'], ${JSON.stringify(`${ipRule('del')}\n`)}, null)`,
  };
  const refused = {
    'every connection': inNat('-A CULVERT_OUTPUT -p tcp -m tcp --syn -j REDIRECT --to-ports 15004'),
    'every user': inNat(`${probe} -j REDIRECT --to-ports 15004`),
    'a network': inNat(
      '-A CULVERT_OUTPUT -d 0.0.0.0/0 -p tcp -m tcp --syn -m owner --uid-owner 0 -j REDIRECT --to-ports 15004',
    ),
    'the port of a workload': inNat(`${probe} -m owner --uid-owner 0 -j REDIRECT --to-ports 15001`),
    'what comes in': load([
      '*nat',
      ':CULVERT_PREROUTING - [0:0]',
      '-A CULVERT_PREROUTING -p tcp -j REDIRECT --to-ports 15004',
      'COMMIT',
    ]),
    'a jump from elsewhere': load(['*mangle', ':CULVERT_X - [0:0]', '-I PREROUTING 1 -p tcp -j CULVERT_X', 'COMMIT']),
    'a port of the host': load(['*filter', ':CULVERT_INPUT - [0:0]', '-A CULVERT_INPUT -p tcp -j DROP', 'COMMIT']),
    'a mark': load([
      '*mangle',
      ':CULVERT_OUTPUT - [0:0]',
      '-A CULVERT_OUTPUT -p tcp -j MARK --set-xmark 0x111/0xfff',
      'COMMIT',
    ]),
    'a route': `run(['ip', '-4', '-batch', '-'], ${JSON.stringify(`${ipRoute('add')}\n`)}, null)`,
    'a setting': "run(['sh', '-c', 'echo 0 >/proc/sys/net/ipv4/tcp_early_demux'], '', null)",
  };
  const found = await askConfined({ ...allowed, ...refused }, netnsPath, null, netnsPath);
  for (const question of ['rules', 'removal'])
    assert.deepEqual(found[question]?.value, { code: 0, stdout: '', stderr: '' }, JSON.stringify(found[question]));
  assert.equal(found['routes']?.code, undefined, JSON.stringify(found['routes']));
  for (const question of Object.keys(refused))
    assert.equal(found[question]?.code, 'EPERM', `${question}: ${JSON.stringify(found[question])}`);
});

test('verdicts go to the queue of the agent, and only verdicts', async () => {
  const question = (type: number, queue: number): string => `(() => {
    const message = Buffer.alloc(32);
    message.writeUInt32LE(32, 0); message.writeUInt16LE(${type}, 4); message.writeUInt16LE(1, 6); message.writeUInt16BE(${queue}, 18);
    message.writeUInt16LE(12, 20); message.writeUInt16LE(2, 22); message.writeUInt32BE(1, 24); message.writeUInt32BE(1, 28);
    return addon.callAddon('x', (native) => native.giveVerdict(addon.openConntrack({ netnsFd: netns.fd }), message));
  })()`;
  const found = await askConfined(
    {
      verdict: question(0x301, synQueueNumber),
      other: question(0x301, 1),
      configuration: question(0x302, synQueueNumber),
    },
    netnsPath,
  );
  assert.notEqual(found['verdict']?.code, 'EPERM', JSON.stringify(found['verdict']));
  assert.deepEqual([found['other']?.code, found['configuration']?.code], ['EPERM', 'EPERM']);
});
