import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import {
  type Command,
  type CommandResult,
  CommandRunner,
  lacksExtension,
} from '../../../../agent/capture/firewall/command-runner.js';
import { defaultCaptureSettings } from '../../../../agent/capture/capture-settings.js';
import { detectBackend, type NetfilterBackend } from '../../../../agent/capture/firewall/netfilter-backend.js';
import { NamespaceCapture, noExclusions, workloadHooks } from '../../../../agent/capture/namespace-capture.js';
import { renderRestore } from '../../../../agent/capture/firewall/chain-plan.js';
import { existingTables, parseSave } from '../../../../agent/capture/firewall/installed-rules.js';
import { RuleSet } from '../../../../agent/capture/firewall/rule-set.js';
import { planWorkloadChains } from '../../../../agent/capture/firewall/workload-rules.js';
import { ListeningSockets } from '../../../../agent/dataplane/pool/listening-sockets.js';
import { listenTcp } from '../../../../agent/native/addon.js';
import { netnsInode } from '../../../../agent/native/netns.js';
import { duplicate } from '../../../../agent/native/passed-sockets.js';
import { capturePorts, lateAcceptPorts } from '../../../../agent/ports.js';
import { CaptureNetwork, type NetworkPlace } from '../../../support/agent/capture-network.js';
import { workloadNamed } from '../../../support/routing/names.js';

const families = [4, 6] as const;
const backEnds: readonly NetfilterBackend[] = [
  { kind: 'nft', iptables: { 4: 'iptables-nft', 6: 'ip6tables-nft' } },
  { kind: 'legacy', iptables: { 4: 'iptables-legacy', 6: 'ip6tables-legacy' } },
];

/** What iptables 1.8 prints without the `socket` match, or without a kernel that has it. */
const lacking = {
  missingMatch:
    "iptables-nft-restore v1.8.9 (nf_tables): Couldn't load match `socket':No such file or directory\n\nError occurred at line: 22",
  'library of legacy': "iptables-restore v1.8.9 (legacy): Couldn't load match `socket':No such file or directory",
  module:
    'Warning: Extension socket revision 0 not supported, missing kernel module?\niptables-nft-restore v1.8.9 (nf_tables): \nline 22: RULE_APPEND failed (No such file or directory): rule in chain CULVERT_INPUT',
  'module of legacy':
    'Warning: Extension socket revision 0 not supported, missing kernel module?\niptables-restore: line 24 failed',
};

/** What it prints of failures that pass. */
const passing = {
  lock: 'Another app is currently holding the xtables lock. Stopped waiting after 5s.',
  memory:
    'iptables-nft-restore v1.8.9 (nf_tables): \nline 22: RULE_APPEND failed (Cannot allocate memory): rule in chain CULVERT_INPUT',
  'memory of legacy': 'iptables-restore: line 24 failed',
};

/** Loads of the guard fail with this text in these families. */
class RefusingRunner extends CommandRunner {
  stderr: string | null;
  in: readonly (4 | 6)[] = families;

  constructor(stderr: string) {
    super({ maxParallel: 2 });
    this.stderr = stderr;
  }

  override async run(command: Command): Promise<CommandResult> {
    const family = command.argv[0].startsWith('ip6tables') ? 6 : 4;
    if (this.stderr !== null && this.in.includes(family) && command.input?.includes('-m socket') === true)
      return { code: 2, stdout: '', stderr: this.stderr };
    return await super.run(command);
  }
}

let network: CaptureNetwork;
before(() => {
  network = new CaptureNetwork();
});
afterEach(() => network.cleanUp());
after(() => network[Symbol.asyncDispose]());

async function newCapture(
  place: NetworkPlace,
  runner: CommandRunner,
  backend?: NetfilterBackend,
): Promise<NamespaceCapture> {
  const latePorts = [1];
  const workload = {
    name: workloadNamed('t/web'),
    netnsPath: place.path,
    addresses: [],
    exclusions: noExclusions,
    latePorts,
  };
  const log = { info: () => {}, warn: () => {}, error: () => {} };
  return new NamespaceCapture({
    runner,
    backend: backend ?? (await detectBackend(runner)),
    settings: defaultCaptureSettings,
    log,
    onRepair: () => {},
    workload,
    inode: netnsInode(place.path) ?? 0,
    ownCgroup: null,
  });
}

async function captureOf(...of: Parameters<typeof newCapture>): Promise<NamespaceCapture> {
  const capture = await newCapture(...of);
  await capture.apply(capture.workload);
  return capture;
}

/** In which families the rules of the agent have this comment. */
async function familiesWith(comment: string, { iptables }: NetfilterBackend): Promise<readonly (4 | 6)[]> {
  const saved = await Promise.all(families.map((family) => network.sh(network.a, `${iptables[family]}-save`)));
  return families.filter((_, index) => saved[index]?.includes(`culvert:${comment}`));
}

/** What comes to each port of the agent in `a`, from inside, from outside, and directly. */
async function answers(): Promise<readonly string[]> {
  const { a, b, x } = network;
  const found: string[] = [];
  for (const family of families) {
    found.push((await network.dial({ from: a, ip: b.ip[family], port: 8400 })).line);
    found.push((await network.dial({ from: x, ip: a.ip[family], port: 8401 })).line);
    found.push((await network.dial({ from: x, ip: a.ip[family], port: capturePorts.inboundTunnel })).line);
    for (const port of Object.values(lateAcceptPorts))
      found.push((await network.dial({ from: a, ip: a.ip[family], port })).line);
  }
  return found.map((line) => line.split(' ')[0]!);
}

test('a socket on a port of the agent that is not transparent gets no connection', async () => {
  const capture = await captureOf(network.a, new CommandRunner({ maxParallel: 2 }));
  const ports = [...Object.values(capturePorts), ...Object.values(lateAcceptPorts)];
  for (const port of ports) await network.serve({ at: network.a, port, label: 'foreign', isForeign: true });
  assert.deepEqual(new Set(await answers()), new Set(['ECONNREFUSED']));
  assert.equal(capture.status().guardProblem, null);
  await capture.stop();
});

test('without a socket on them connections are refused, and a transparent one gets them', async () => {
  const capture = await captureOf(network.a, new CommandRunner({ maxParallel: 2 }));
  assert.deepEqual(new Set(await answers()), new Set(['ECONNREFUSED']));
  await network.serveCapturePorts(network.a);
  const closed = Object.values(lateAcceptPorts).map(() => 'ECONNREFUSED');
  const served = ['outbound', 'inbound', 'tunnel', ...closed];
  assert.deepEqual(await answers(), [...served, ...served]);
  await capture.stop();
});

test('without the socket match the namespace is captured all the same, says so, and is guarded when there is one', async () => {
  const runner = new RefusingRunner(lacking.missingMatch);
  await network.serveCapturePorts(network.a);
  const capture = await captureOf(network.a, runner);
  assert.equal(capture.state, 'captured');
  assert.match(
    capture.status().guardProblem ?? '',
    /other programs can take the agent's ports in it: .*match `socket'/,
  );
  assert.equal((await answers())[0], 'outbound');
  assert.doesNotMatch(await network.sh(network.a, 'iptables-save'), /own-listener/);
  runner.stderr = null;
  assert.equal(await capture.check({ isFull: true }), 'ok');
  assert.equal(capture.status().guardProblem, null);
  assert.match(await network.sh(network.a, 'iptables-save; ip6tables-save'), /(own-listener[^]*){4}/);
  await capture.stop();
});

for (const [what, stderr] of Object.entries(lacking)) {
  test(`a guard that iptables or the kernel lacks is left out: ${what}`, async () => {
    await network.serveCapturePorts(network.a);
    const capture = await captureOf(network.a, new RefusingRunner(stderr));
    assert.equal(capture.state, 'captured');
    assert.match(capture.status().guardProblem ?? '', /: IPv4 and IPv6: \S+-restore .* failed/);
    await capture.stop();
  });
}

for (const [what, stderr] of Object.entries(passing)) {
  test(`a failure that passes does not leave the guard out, and is tried again soon: ${what}`, async () => {
    const backend = await detectBackend(new CommandRunner({ maxParallel: 2 }));
    await network.serveCapturePorts(network.a);
    const runner = new RefusingRunner(stderr);
    const capture = await newCapture(network.a, runner);
    await assert.rejects(capture.apply(capture.workload), { code: 'CAPTURE_RULES' });
    assert.equal(capture.isUnsettled, true);
    assert.deepEqual(await familiesWith('outbound', backend), [], 'nothing is redirected to ports without a guard');
    runner.stderr = null;
    assert.equal(await capture.check({ isFull: true }), 'repaired');
    assert.equal(capture.isUnsettled, false);
    assert.equal(capture.status().guardProblem, null);
    assert.deepEqual(await familiesWith('own-listener', backend), [4, 6]);
    await capture.stop();
  });
}

for (const backend of backEnds) {
  test(`one family may lack the guard, also where it was loaded before, with the ${backend.kind} back end`, async () => {
    await network.serveCapturePorts(network.a);
    const runner = new RefusingRunner(lacking.missingMatch);
    for (const [refused, guarded, said] of [
      [[], [4, 6], null],
      [[6], [4], /ports in it: IPv6: /],
      [[4], [6], /ports in it: IPv4: /],
      [[4, 6], [], /ports in it: IPv4 and IPv6: /],
    ] as const) {
      runner.in = refused;
      // As after a restart of the agent.
      const capture = await captureOf(network.a, runner, backend);
      assert.equal(capture.state, 'captured');
      assert.deepEqual(await familiesWith('own-listener', backend), guarded);
      assert.deepEqual(await familiesWith('outbound', backend), families);
      const { guardProblem } = capture.status();
      if (said === null) assert.equal(guardProblem, null);
      else assert.match(guardProblem ?? '', said);
      assert.equal(await capture.check({ isFull: true }), 'ok');
      await capture.stop();
    }
    await new RuleSet({ runner, backend, hasRoutes: true, hooks: workloadHooks }).remove(network.a.fd);
    if (backend.kind === 'nft') assert.equal((await network.sh(network.a, 'nft list ruleset')).trim(), '');
  });
}

for (const { kind, iptables } of backEnds) {
  test(`what the ${kind} back end says of a match that it lacks is told from a rule that is wrong`, async () => {
    const runner = new CommandRunner({ maxParallel: 2 });
    const load = async (family: 4 | 6, rule: string): Promise<unknown> => {
      const argv = [`${iptables[family]}-restore`, '--noflush', '-w', '5'] as const;
      const input = `*filter\n:CULVERT_INPUT - [0:0]\n-A CULVERT_INPUT ${rule} -j RETURN\nCOMMIT\n`;
      return await runner.must({ argv, netnsFd: network.a.fd, input }).catch((error: unknown) => error);
    };
    for (const family of families) {
      assert.equal(lacksExtension(await load(family, '-m match-that-is-not-there')), true);
      assert.equal(lacksExtension(await load(family, '-m socket --option-that-is-not-there')), false);
    }
  });
}

test('an agent from before the guard is refused everything until "remove" has run, and then serves', async () => {
  const runner = new CommandRunner({ maxParallel: 2 });
  const backend = await detectBackend(runner);
  await (await captureOf(network.a, runner)).stop();
  // Its sockets are not transparent, and it neither knows nor removes chains of the filter table.
  await network.serve({ at: network.a, port: capturePorts.outbound, label: 'older', isForeign: true });
  const loadOlder = async (): Promise<void> => {
    for (const family of families) {
      const chains = planWorkloadChains(family, noExclusions).filter(({ table }) => table !== 'filter');
      const found = await network.sh(network.a, `${backend.iptables[family]}-save`);
      const text = renderRestore(chains, existingTables(parseSave(found), backend));
      await network.sh(network.a, `${backend.iptables[family]}-restore --noflush <<'E'\n${text}E`);
    }
  };
  const dialBoth = async (): Promise<readonly string[]> => {
    const lines: string[] = [];
    for (const family of families) {
      const { line, socket } = await network.dial({ from: network.a, ip: network.b.ip[family], port: 8402 });
      socket.destroy();
      lines.push(line.split(' ')[0]!);
    }
    return lines;
  };
  await loadOlder();
  assert.deepEqual(await dialBoth(), ['ECONNREFUSED', 'ECONNREFUSED']);
  await new RuleSet({ runner, backend, hasRoutes: true, hooks: workloadHooks }).remove(network.a.fd);
  const left = await network.sh(network.a, `${backend.iptables[4]}-save; ${backend.iptables[6]}-save`);
  assert.doesNotMatch(left, /CULVERT|culvert/);
  await loadOlder();
  assert.deepEqual(await dialBoth(), ['older', 'older']);
});

test('a program that joins the sockets of an older agent gets no connection', async () => {
  const { a } = network;
  const port = capturePorts.outbound;
  const kept = [0, 1].map(() =>
    listenTcp({ netnsFd: a.fd, host: '::', port, backlog: 64, reusePort: true, transparent: false }),
  );
  const sockets = new ListeningSockets({ workers: 1, backlog: 64, kept });
  const workload = { name: workloadNamed('t/web'), netnsPath: a.path, netnsInode: netnsInode(a.path) ?? 0 };
  const opened = sockets.openFor([workload]).get(workload.name);
  assert.ok(opened?.kind === 'open');
  assert.equal(opened.fds.outbound.length, 2);
  for (const fd of opened.fds.outbound) await network.serve({ at: a, port, label: 'own', fd: duplicate(fd) });
  const capture = await captureOf(a, new CommandRunner({ maxParallel: 2 }));
  const dialled = async (count: number): Promise<readonly string[]> => {
    const found = new Set<string>();
    for (let i = 0; i < count; i++) {
      for (const family of families) {
        const { line, socket } = await network.dial({ from: a, ip: network.b.ip[family], port: 8403 });
        socket.destroy();
        found.add(line.split(' ')[0]!);
      }
    }
    return [...found].toSorted();
  };
  assert.deepEqual(await dialled(10), ['own']);
  const foreign = { at: a, port, label: 'foreign', isForeign: true, reusePort: true };
  await network.serve(foreign);
  assert.deepEqual(await dialled(40), ['ECONNREFUSED', 'own'], 'those that the kernel gives it are refused');
  await network.serve({ ...foreign, host: '127.0.0.1' });
  await network.serve({ ...foreign, host: '::1' });
  assert.deepEqual(await dialled(10), ['ECONNREFUSED'], 'at a more exact address it would get all');
  await capture.stop();
  sockets.closeAll();
});
