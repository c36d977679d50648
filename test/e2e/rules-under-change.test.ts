import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { after, before, test } from 'node:test';
import type { AccessLogLine } from '../../agent/telemetry/access-log.js';
import { workloadParty, type MeshParty } from '../../controller/analysis/pairs/mesh-party.js';
import { predict } from '../../controller/analysis/pairs/predict.js';
import { parseDocuments } from '../../controller/resources/parse/parse-documents.js';
import { compileSnapshot } from '../../controller/compile/compile-snapshot.js';
import { formatRuleRef } from '../../shared/policy/connection.js';
import { registryEntries } from '../../controller/inventory/registry-entries.js';
import type { Snapshot } from '../../shared/policy/snapshot.js';
import type { LabServer } from '../lab/namespace-sockets.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import type { MeshAgent } from '../lab/mesh-agent.js';
import { waitUntil } from '../lab/wait-until.js';
import { HeldConnection, startEcho } from '../support/mesh/echo-traffic.js';
import { RandomChoices } from '../support/mesh/random-choices.js';
import { documents, meshOf, ruleWorld, segmentationRule } from '../support/mesh/rule-world.js';
import { patientMs } from '../lab/patience.js';

const connections = 1000;
const lanes = 25;
const revisionEveryMs = 75;
/** What may be dialled on these changes with every revision; the last is always allowed. */
const changingPorts = [5001, 5002, 5003, 5004] as const;
const steadyPort = 5005;
const ports = [...changingPorts, steadyPort] as const;
const sources = ['web', 'api', 'visitor'] as const;
const accounts = { web: 'shop/web', api: 'shop/api', visitor: 'guest/default' } as const;
const trustDomain = 'culvert.local';
const clock = { nowMs: () => Date.now() };

let mesh: Mesh;
let echoes: readonly LabServer[];
/** Every revision that was ever in force, compiled here a second time. */
const snapshots = new Map<number, Snapshot>();

before(async () => {
  mesh = await startMesh({ topology: ruleWorld });
  echoes = await Promise.all(ports.map((port) => startEcho(mesh.lab.workload('db'), port)));
});

after(async () => {
  await Promise.all(echoes.map((echo) => echo.close()));
  await mesh[Symbol.asyncDispose]();
});

/** Rules of the same names, whose meaning changes so that those of two revisions together decide as neither does. */
function randomRules(random: RandomChoices): string {
  const rule = (name: string, priority: number): string => {
    const from = random.some(sources, 3).map((source) => `{ serviceAccount: ${accounts[source]} }`);
    const fields = `action: ${random.pick(['allow', 'deny'])}, from: [${from.join(', ')}], to: [{ workload: shop/db }]`;
    return segmentationRule(
      name,
      `{ priority: ${priority}, ${fields}, ports: [${random.some(changingPorts, 4).join(', ')}] }`,
    );
  };
  const defaultAction = random.pick(['allow', 'allow', 'deny']);
  const steady = segmentationRule('steady', `{ action: allow, priority: 0, ports: [${steadyPort}] }`);
  const changing = [rule('first', 1), rule('second', 2), rule('third', 3)];
  return documents(meshOf(`{ defaultAction: ${defaultAction} }`), steady, ...changing);
}

async function applyAndRemember(rules: string): Promise<number> {
  const { revision } = (await mesh.controller.api('/v1/apply', { documents: rules })) as { revision: number };
  const { resources, problems } = parseDocuments(documents(mesh.lab.resources(), rules));
  assert.deepEqual(problems, []);
  const compiled = compileSnapshot(resources, { revision, createdAt: '', createdBy: '', trustDomain });
  assert.ok('snapshot' in compiled);
  snapshots.set(revision, compiled.snapshot);
  return revision;
}

type Expected = { readonly verdict: 'allow' | 'deny'; readonly rule: string };

function expected(revision: number, ends: Record<string, MeshParty>, source: string, port: number): Expected {
  const snapshot = snapshots.get(revision);
  assert.ok(snapshot !== undefined, `revision ${revision} was never in force`);
  const [from, to] = [ends[source], ends['shop/db']];
  assert.ok(from !== undefined && to !== undefined, `${source} is no workload`);
  const { verdict, rule } = predict(snapshot, { source: from, destination: to, port }, clock);
  return { verdict, rule: formatRuleRef(rule) };
}

function meshEnds(): Record<string, MeshParty> {
  const { resources } = parseDocuments(mesh.lab.resources());
  const built = registryEntries(resources, trustDomain);
  assert.ok('entries' in built);
  return Object.fromEntries(
    built.entries.flatMap((entry) => {
      if (entry.kind !== 'workload') return [];
      const ip = mesh.lab.workload(entry.name).ipv4;
      return [[`${entry.namespace}/${entry.name}`, workloadParty(entry, ip)]];
    }),
  );
}

type Tried = {
  readonly source: (typeof sources)[number];
  readonly port: number;
  /** Null: it was refused. */
  readonly held: HeldConnection | null;
};

/** All of them, a few at a time; each says something once and then stays open. */
async function openAll(random: RandomChoices): Promise<Tried[]> {
  const wanted = Array.from({ length: connections }, () => ({
    source: random.pick(sources),
    port: random.pick(ports),
  }));
  const tried: Tried[] = [];
  const ip = mesh.lab.workload('db').ipv4;
  const lane = async (): Promise<void> => {
    for (let next = wanted.pop(); next !== undefined; next = wanted.pop()) {
      const { source, port } = next;
      // Refused before or just after its first bytes: both are refusals. A deadline is not.
      const held = await HeldConnection.open(mesh.lab.workload(source), { ip, port }).catch((error: unknown) => {
        const text = String(error instanceof Error && 'code' in error ? error.code : error);
        assert.match(text, /ECONNRE(SET|FUSED)|EPIPE|has ended/, `a connection hung: ${text}`);
        return null;
      });
      tried.push({ source, port, held });
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return tried;
}

function recordsOf(agent: MeshAgent, direction: string, since: number): AccessLogLine[] {
  return agent
    .records()
    .slice(since)
    .filter((line) => line.direction === direction && (line.destinationWorkload ?? 'shop/db') === 'shop/db');
}

test(
  `${connections} connections under rules that change all the time: each is judged by one revision, and counted`,
  { timeout: patientMs(120_000) },
  async (context) => {
    const random = new RandomChoices({ seed: Number(process.env['CULVERT_TEST_SEED'] ?? Date.now() % 2 ** 32) });
    context.diagnostic(`seed ${random.seed}: CULVERT_TEST_SEED=${random.seed} repeats it`);
    const ends = meshEnds();
    const [node1, node2] = [mesh.agent('node1'), mesh.agent('node2')];
    await mesh.waitForRevision(await applyAndRemember(documents(meshOf('{ defaultAction: allow }'))));
    const earlier = { node1: node1.records().length, node2: node2.records().length };

    const opening = { isOver: false };
    const opened = openAll(random).finally(() => (opening.isOver = true));
    const rules = new RandomChoices({ seed: random.seed + 1 });
    while (!opening.isOver || snapshots.size < 20) {
      const pause = delay(revisionEveryMs);
      await applyAndRemember(randomRules(rules));
      await pause;
    }
    const tried = await opened;
    const last = await applyAndRemember(randomRules(rules));
    await mesh.waitForRevision(last);
    assert.equal(tried.length, connections);

    // What the last revision forbids is gone, and what it allows and was not cut before lives and works.
    const isAllowed = ({ source, port }: Tried): boolean =>
      expected(last, ends, `${ruleWorldNamespace(source)}/${source}`, port).verdict === 'allow';
    const open = (): Tried[] => tried.filter(({ held }) => held !== null && held.ended === null);
    await waitUntil('no connection that the last revision forbids is open', () =>
      open().every(isAllowed) ? true : undefined,
    );
    const survivors = open();
    const steady = tried.filter(({ port }) => port === steadyPort);
    const broken = steady.filter((connection) => !survivors.includes(connection));
    const records = [...recordsOf(node1, 'outbound', earlier.node1), ...recordsOf(node2, 'inbound', earlier.node2)];
    assert.equal(
      broken.length,
      0,
      `what every revision allows is never refused or cut: ${JSON.stringify(
        records.filter(({ requested, reason }) => requested?.endsWith(`:${steadyPort}`) === true && reason !== 'OK'),
      )}`,
    );
    const living = survivors.flatMap(({ held }) => (held === null ? [] : [held]));
    await Promise.all(living.map((held) => held.exchange(20_000)));
    const endings = await Promise.all(living.map((held) => held.close(20_000)));
    assert.deepEqual(
      [...new Set(endings)].filter((ending) => ending !== 'end'),
      [],
    );

    const outbound = await waitUntil(
      'every connection has its record at the source',
      () => {
        const found = recordsOf(node1, 'outbound', earlier.node1);
        return found.length >= connections ? found : undefined;
      },
      20_000,
    );
    assert.equal(outbound.length, connections);
    await waitUntil('nothing is open any more', async () =>
      (await node2.metric('culvert_open_connections')) + (await node1.metric('culvert_open_connections')) === 0
        ? true
        : undefined,
    );
    const inbound = recordsOf(node2, 'inbound', earlier.node2);
    const farEnds = new Map(inbound.map((line) => [line.traceId, line]));

    const seen = new Map<string, number>();
    const used = new Set<number>();
    for (const line of [...outbound, ...inbound]) {
      // Who is told by the other agent why it refused names the rule of that one's revision.
      const judge = line.detail?.includes('answered 401') === true ? farEnds.get(line.traceId) : line;
      assert.ok(judge !== undefined, `only one end has a record of ${JSON.stringify(line)}`);
      const isDenied = line.reason.startsWith('POLICY_');
      const port = Number(/:(\d+)$/.exec(judge.destinationAddress ?? '')?.[1]);
      const decision = expected(judge.revision, ends, judge.sourceWorkload ?? '', port);
      const found = { verdict: isDenied ? 'deny' : 'allow', rule: line.rule };
      assert.deepEqual(found, decision, `${JSON.stringify(line)}\nis not what revision ${judge.revision} says`);
      seen.set(line.reason, (seen.get(line.reason) ?? 0) + 1);
      used.add(judge.revision);
    }
    context.diagnostic(`${snapshots.size} revisions, ${used.size} of them decided: ${JSON.stringify([...seen])}`);
    assert.ok(used.size >= 10, `only ${used.size} of ${snapshots.size} revisions decided anything`);
    for (const reason of ['OK', 'POLICY_DENY', 'POLICY_TERMINATED']) assert.ok((seen.get(reason) ?? 0) > 0, reason);

    const worked = outbound.filter(({ reason }) => reason === 'OK').length;
    assert.equal(worked, survivors.length, 'only the survivors ended by themselves');
    for (const [agent, lines] of [
      [node1, outbound],
      [node2, inbound],
    ] as const) {
      for (const reason of ['OK', 'POLICY_DENY', 'POLICY_TERMINATED', 'POLICY_DEFAULT_DENY']) {
        const logged = lines.filter((line) => line.reason === reason).length;
        await waitUntil(`${agent.name} counts ${logged} times ${reason}`, async () =>
          (await agent.metric('culvert_connections_closed_total', { reason })) >= logged ? true : undefined,
        );
      }
    }
  },
);

function ruleWorldNamespace(name: (typeof sources)[number]): string {
  return accounts[name].split('/')[0] ?? '';
}
