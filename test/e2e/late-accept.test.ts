import process from 'node:process';
import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import type { LabNode, LabWorkload } from '../lab/lab-node.js';
import type { LabServer } from '../lab/namespace-sockets.js';
import { type Mesh, prepareMesh } from '../lab/mesh.js';
import { patientMs } from '../lab/patience.js';
import type { LabTopology, WorkloadSpec } from '../lab/topology.js';
import { openNetns } from '../../agent/native/netns.js';
import { openSynQueue } from '../../agent/native/syn-queue.js';
import { synQueueNumber } from '../../agent/ports.js';
import type { ReadinessReport } from '../../agent/admin/readiness.js';
import { programs } from '../lab/programs.js';
import { waitUntil } from '../lab/wait-until.js';
import { type Attempt, attempt, recordAtSource, serveSeenAddress } from '../support/mesh/attempt.js';
import { loggedIn } from '../support/mesh/log-lines.js';
import { netnsFingerprint } from '../support/mesh/netns-fingerprint.js';

/** With `earlyAccept: false`, at every destination but `other`. */
const late = 8080;
/** As by default. */
const early = 8081;

function workload(name: string, ports: WorkloadSpec['ports'] = [{ name: 'late', port: late, earlyAccept: false }]) {
  return { name, namespace: 'shop', serviceAccount: name, labels: { app: name }, ports };
}

const topology: LabTopology = {
  hosts: [
    { name: 'node1', workloads: [workload('client', []), workload('side')] },
    {
      name: 'node2',
      workloads: [workload('server'), workload('other', []), { ...workload('legacy'), isMeshed: false }],
    },
  ],
  services: [
    {
      name: 'front',
      namespace: 'shop',
      ports: [{ port: 80, targetPort: late, earlyAccept: false }],
      selector: { app: 'server' },
    },
  ],
  externalHosts: ['outside'],
};

let mesh: Mesh;
/** The client's namespace before there was an agent. */
let untouched: string;
const client = (): LabWorkload => mesh.lab.workload('client');
const server = (): LabWorkload => mesh.lab.workload('server');

before(async () => {
  mesh = await prepareMesh({ topology, agentArgs: ['--drain-timeout', '4s'] });
  untouched = await netnsFingerprint(client());
  await mesh.startAgents();
  const { ipv4, ipv6 } = mesh.lab.host('outside');
  await mesh.apply(`
apiVersion: culvert.dev/v1
kind: ServiceEntry
metadata: { name: outside, namespace: shop }
spec:
  hosts: [outside.example]
  addresses: [${ipv4}, '${ipv6}']
  ports: [{ number: ${late}, earlyAccept: false }]
---
apiVersion: culvert.dev/v1
kind: SegmentationRule
metadata: { name: none-to-other }
spec: { action: deny, to: [{ workload: shop/other }] }
`);
  await untilHeld();
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

/** In how many of the two families connects wait: the rules of one are changed before those of the other. */
async function queues(): Promise<number> {
  const rules = await client().check(['sh', '-c', 'iptables-save -t mangle; ip6tables-save -t mangle']);
  return (rules.match(/NFQUEUE/g) ?? []).length;
}

async function untilHeld(): Promise<void> {
  await waitUntil('connects are held', async () => ((await queues()) === 2 ? true : undefined));
}

async function untilNotHeld(): Promise<void> {
  await waitUntil('no connect is held', async () => ((await queues()) === 0 ? true : undefined));
}

async function outcome(ip: string, port = late): Promise<string> {
  return (await attempt(client(), ip, port)).outcome;
}

/** `DROP` for SYNs that arrive there: a server that is not there yet. Returns what ends it, and the number of SYNs so far. */
async function silence(node: LabNode, family: 'ipv4' | 'ipv6', port = late) {
  const iptables = family === 'ipv4' ? 'iptables' : 'ip6tables';
  const rule = ['INPUT', '-p', 'tcp', '--syn', '--dport', String(port), '-j', 'DROP'];
  await node.check([iptables, '-I', ...rule]);
  return {
    syns: async () => Number(/^\s*(\d+) .*DROP/m.exec(await node.check([iptables, '-nvxL', 'INPUT']))?.[1] ?? 0),
    [Symbol.asyncDispose]: async () => void (await node.check([iptables, '-D', ...rule])),
  };
}

for (const family of ['ipv4', 'ipv6'] as const) {
  describe(`over ${family}`, () => {
    const destinations: readonly [string, () => LabNode, string][] = [
      ['a workload of another host', server, 'hbone'],
      ['a neighbour on the same host', () => mesh.lab.workload('side'), 'local'],
      ['a workload without an agent', () => mesh.lab.workload('legacy'), 'plaintext'],
      ['a machine outside the mesh', () => mesh.lab.host('outside'), 'passthrough'],
    ];
    for (const [what, node, path] of destinations) {
      test(`connect to ${what} fails while nothing listens there, and succeeds when something does`, async () => {
        const ip = node()[family];
        const down = await attempt(client(), ip, late);
        assert.equal(down.outcome, 'ECONNREFUSED');
        const refusal = await recordAtSource(mesh, client(), down);
        assert.equal(refusal.reason, 'CONNECT_REFUSED', JSON.stringify(refusal));
        await using _listening = await serveSeenAddress(node(), late);
        const up = await attempt(client(), ip, late);
        assert.deepEqual([up.outcome, up.seenAs], ['OK', `${node().name} ${client()[family]}`]);
        const record = await recordAtSource(mesh, client(), up);
        assert.deepEqual([record.reason, record.path], ['OK', path]);
      });
    }

    test('connect to a service fails while its workload serves nothing', async () => {
      const vip = mesh.lab.vip('front')[family];
      assert.equal(await outcome(vip, 80), 'ECONNREFUSED');
      await using _listening = await serveSeenAddress(server(), late);
      assert.equal(await outcome(vip, 80), 'OK');
    });

    test('other ports, and the same port of a destination that did not ask for it, are accepted early', async () => {
      assert.equal(await outcome(server()[family], early), 'ECONNRESET');
      const denied = await attempt(client(), mesh.lab.workload('other')[family], late);
      assert.equal(denied.outcome, 'ECONNRESET');
    });

    test('a server that is not there yet keeps the client in connect', async () => {
      await using _listening = await serveSeenAddress(server(), late);
      let made: Promise<Attempt>;
      {
        await using gone = await silence(server(), family);
        let hasEnded = false;
        made = attempt(client(), server()[family], late).finally(() => (hasEnded = true));
        await waitUntil('the server was asked twice', async () => ((await gone.syns()) >= 2 ? true : undefined));
        assert.equal(hasEnded, false);
      }
      assert.equal((await made).outcome, 'OK');
    });
  });
}

test('a rule that denies refuses the connect, and its record names the rule', async () => {
  await using _listening = await serveSeenAddress(server(), late);
  await mesh.apply(`
apiVersion: culvert.dev/v1
kind: SegmentationRule
metadata: { name: no-late }
spec: { action: deny, to: [{ workload: shop/server }], ports: [${late}] }
`);
  const made = await attempt(client(), server().ipv4, late);
  const { reason, rule } = await recordAtSource(mesh, client(), made);
  assert.deepEqual([made.outcome, reason, rule], ['ECONNREFUSED', 'POLICY_DENY', 'SegmentationRule/no-late']);
  await mesh.delete('SegmentationRule', 'no-late');
  assert.equal(await outcome(server().ipv4), 'OK');
});

test('a refusal says nothing of the next connect from the same port of the client', async () => {
  const from = 45_678;
  const dial = `
    const socket = require('node:net').connect({ host: '${server().ipv4}', port: ${late}, localPort: ${from} });
    socket.on('connect', () => { console.log('OK'); socket.resetAndDestroy(); });
    socket.on('error', (error) => console.log(error.code));`;
  const fromThere = async (): Promise<string> => (await client().check([process.execPath, '-e', dial])).trim();
  assert.equal(await fromThere(), 'ECONNREFUSED');
  await using _listening = await serveSeenAddress(server(), late);
  assert.equal(await fromThere(), 'OK');
});

test('200 connects at once are each accepted, or each refused', async () => {
  const all = (): Promise<string[]> => Promise.all(Array.from({ length: 200 }, () => outcome(server().ipv4)));
  assert.deepEqual(new Set(await all()), new Set(['ECONNREFUSED']));
  await using _listening = await serveSeenAddress(server(), late);
  assert.deepEqual(new Set(await all()), new Set(['OK']));
});

test('a connect that waits lives through the death of the agent', { timeout: patientMs(120_000) }, async () => {
  const node1 = mesh.agent('node1');
  await using _listening = await serveSeenAddress(server(), late);
  let made: Promise<Attempt>;
  {
    await using gone = await silence(server(), 'ipv4');
    made = attempt(client(), server().ipv4, late, patientMs(90_000));
    await waitUntil('the server was asked', async () => ((await gone.syns()) >= 1 ? true : undefined));
    await node1.stop('SIGKILL');
  }
  await node1.start();
  await node1.waitReady();
  assert.equal((await made).outcome, 'OK');
});

test('a client that gives up leaves nothing open', async () => {
  let seen = 0;
  let open = 0;
  await using _listening: LabServer = await server().listen({ port: late }, (socket) => {
    seen += 1;
    open += 1;
    socket
      .once('close', () => (open -= 1))
      .once('end', () => socket.end())
      .on('error', () => {})
      .resume();
  });
  {
    await using gone = await silence(server(), 'ipv4');
    const made = await attempt(client(), server().ipv4, late, 1500);
    assert.equal(made.outcome, 'LAB_CONNECT_DEADLINE');
    assert.ok((await gone.syns()) >= 1);
  }
  await waitUntil('the server sees its connection end', () => (seen > 0 && open === 0 ? true : undefined));
});

test(
  'an agent that lets go of its workloads leaves no queue: connects go directly while old connections drain',
  { timeout: patientMs(60_000) },
  async () => {
    const node1 = mesh.agent('node1');
    await node1.stop('SIGTERM');
    await node1.start(['--remove-on-exit', 'true']);
    await node1.waitReady();
    await using _listening = await server().listen({ port: late }, (socket) => void socket.resume());
    const held = await client().connect({ ip: server().ipv4, port: late });
    const stopped = node1.stop('SIGTERM');
    await untilNotHeld();
    (await client().connect({ ip: server().ipv4, port: late })).destroy();
    held.destroy();
    assert.deepEqual(await stopped, { code: 0, signal: null });
    assert.equal(await netnsFingerprint(client()), untouched);
    await node1.start();
    await node1.waitReady();
    await untilHeld();
    await node1.stop('SIGTERM');
    await node1.node.check([...programs.agent, 'remove', '--state-dir', node1.stateDir]);
    assert.equal(await netnsFingerprint(client()), untouched);
    await node1.start();
    await node1.waitReady();
  },
);

test('a connect that waits lives through a restart of the agent', { timeout: patientMs(60_000) }, async () => {
  const node1 = mesh.agent('node1');
  await untilHeld();
  await using _listening = await serveSeenAddress(server(), late);
  let made: Promise<Attempt>;
  {
    await using gone = await silence(server(), 'ipv4');
    made = attempt(client(), server().ipv4, late, patientMs(60_000));
    await waitUntil('the server was asked', async () => ((await gone.syns()) >= 1 ? true : undefined));
    await node1.stop('SIGTERM');
  }
  await node1.start();
  await node1.waitReady();
  assert.equal((await made).outcome, 'OK');
});

test(
  'while an agent takes over from the running one, every connect tells the truth',
  { timeout: patientMs(90_000) },
  async () => {
    const node1 = mesh.agent('node1');
    const old = node1.process;
    await using _listening = await serveSeenAddress(server(), late);
    const outcomes = new Map<string, number>();
    const stop = new AbortController();
    const lanes = ['server', 'side'].map(async (name) => {
      while (!stop.signal.aborted) {
        const key = `${name} ${await outcome(mesh.lab.workload(name).ipv4)}`;
        outcomes.set(key, (outcomes.get(key) ?? 0) + 1);
      }
    });
    await node1.start();
    await waitUntil('it took over', () => loggedIn(node1.logFile, 'this agent took over')[0]);
    await old.exited;
    await node1.waitReady();
    const before = outcomes.get('server OK') ?? 0;
    await waitUntil('connects go on', () => ((outcomes.get('server OK') ?? 0) > before + 20 ? true : undefined));
    stop.abort();
    await Promise.all(lanes);
    assert.deepEqual([...outcomes.keys()].sort(), ['server OK', 'side ECONNREFUSED']);
  },
);

test('what keeps the queue from being opened is told, and connections are accepted early meanwhile', async () => {
  const node1 = mesh.agent('node1');
  await node1.stop('SIGTERM');
  const holder = await openHolder();
  try {
    await node1.start();
    await waitUntil('the agent says why', async () => {
      const { readiness } = (await node1.admin('/dump')) as { readiness: ReadinessReport };
      return readiness.degraded.find(({ name }) => name === 'late-accept/shop/client');
    });
    await untilNotHeld();
    assert.equal(await outcome(server().ipv4), 'ECONNRESET');
    await waitUntil('the check says why', async () => {
      const { stdout } = await mesh.controller.culvert(['check']);
      return stdout.includes('connects to ports with earlyAccept: false are accepted early') ? true : undefined;
    });
    const applied = await mesh.controller.culvert(['apply', '-f', '-', '--wait', '3s'], mesh.lab.resources());
    assert.equal(applied.code, 1, applied.stdout);
    assert.match(applied.stderr, /no effect for these workloads: shop\/client on node1 .*\[CONNECTS_ACCEPTED_EARLY\]/);
  } finally {
    holder();
  }
  await untilHeld();
  assert.equal(await outcome(server().ipv4), 'ECONNREFUSED');
});

/** Another program has the queue in the client's namespace. Returns what ends it. */
async function openHolder(): Promise<() => void> {
  const { fd } = openNetns(client().netnsPath);
  const other = openSynQueue({ netnsFd: fd, number: synQueueNumber, maxLength: 1, onMessage: () => {} });
  closeSync(fd);
  return () => void other.destroy();
}

test('without any port that asks for it the rules are as they were', { timeout: patientMs(60_000) }, async () => {
  const documents = mesh.lab.resources().replaceAll('earlyAccept: false', 'earlyAccept: true');
  await mesh.apply(documents);
  await mesh.delete('ServiceEntry', 'shop/outside');
  // Table by table.
  await waitUntil('nothing of it is left', async () =>
    /NFQUEUE|15002|culvert:late/.test(await netnsFingerprint(client())) ? undefined : true,
  );
  assert.equal(await outcome(server().ipv4), 'ECONNRESET');
});

test('apply --wait ends when connects are accepted late, and not before', { timeout: patientMs(90_000) }, async () => {
  const { code, stderr } = await mesh.controller.culvert(['apply', '-f', '-', '--wait', '25s'], mesh.lab.resources());
  assert.equal(code, 0, stderr);
  assert.equal(await queues(), 2);
  assert.equal(await outcome(server().ipv4), 'ECONNREFUSED');
});
