import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { after, before, test } from 'node:test';
import type { AccessLogLine } from '../../agent/telemetry/access-log.js';
import type { WhyAnswer } from '../../controller/api/api-types.js';
import { formatHostPort, parseIp } from '../../shared/address.js';
import { formatRuleRef } from '../../shared/policy/connection.js';
import { LabWorkload, type LabNode } from '../lab/lab-node.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { type Attempt, attempt, recordAtSource, serveSeenAddress } from './attempt.js';
import { authorizationPolicy, documents, meshOf, ruleWorld, segmentationRule } from './rule-world.js';

const pairs = 36;
const parallelQuestions = 3;
const ports = [5432, 6379, 8000, 8001];
const families = ['ipv4', 'ipv6'] as const;

/** A failure names it; put it here to see that failure again. */
const seed = randomInt(2 ** 31);
const random = mulberry32(seed);

let mesh: Mesh;

before(async () => {
  mesh = await startMesh({ topology: ruleWorld });
  const nodes: LabNode[] = [...mesh.lab.workloads, mesh.lab.host('outside')];
  await Promise.all(nodes.flatMap((node) => ports.map((port) => serveSeenAddress(node, port))));
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

/** A small generator of reproducible numbers from 0 to 1 (public domain, Tommy Ettinger). */
function mulberry32(start: number): () => number {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function pick<T>(values: readonly [T, ...T[]]): T {
  return values[Math.floor(random() * values.length)] ?? values[0];
}

const peers = [
  '{ namespace: shop }',
  '{ namespace: guest }',
  '{ labels: { tier: front } }',
  '{ labels: { tier: back } }',
  '{ serviceAccount: shop/web }',
  '{ serviceAccount: ops/vault }',
  '{ workload: shop/api }',
  '{ workload: shop/db }',
  '{ node: node1 }',
  '{ node: node2, namespace: shop }',
  '{ cidr: 198.18.0.0/24 }',
  '{ cidr: 198.18.12.0/24, except: [198.18.12.3] }',
  '{ cidr: "fd00:c0:2::/64" }',
  '{ segment: some }',
] as const;

const segment = `
apiVersion: culvert.dev/v1
kind: Segment
metadata: { name: some }
spec: { members: [{ workload: shop/cache }, { labels: { app: visitor } }, { cidr: "fd00:c0::/112" }] }
`;

function randomList(field: string, values: readonly [string | number, ...(string | number)[]]): string {
  if (random() < 0.4) return '';
  const chosen = new Set(Array.from({ length: 1 + Math.floor(random() * 2) }, () => pick(values)));
  return `, ${field}: [${[...chosen].join(', ')}]`;
}

/** Priorities differ, so that no two rules are ambiguous. */
function randomRule(index: number): string {
  const head = `tier: ${pick(['platform', 'team', 'baseline'])}, priority: ${index}, action: ${pick(['allow', 'deny', 'pass'])}`;
  const lists = [
    randomList('from', peers),
    randomList('to', peers),
    randomList('ports', [...ports, '"8000-8001"'] as [string]),
  ];
  return segmentationRule(`r${index}`, `{ ${head}, mode: ${pick(['enforce', 'enforce', 'audit'])}${lists.join('')} }`);
}

function randomPolicy(index: number): string {
  const from = pick([
    'principals: ["cluster.local/ns/shop/*"]',
    'namespaces: ["guest", "ops"]',
    'notPrincipals: ["*/sa/web"]',
    'ipBlocks: ["198.18.11.0/24", "fd00:c0::/48"]',
  ]);
  const rules = `[{ from: [{ source: { ${from} } }], to: [{ operation: { ${pick(['ports', 'notPorts'])}: ["${pick([5432, 8000])}"] } }] }]`;
  const selector = pick(['', 'selector: { matchLabels: { tier: back } }, ']);
  return authorizationPolicy(
    pick(['shop', 'ops', 'istio-system']),
    `p${index}`,
    `{ action: ${pick(['ALLOW', 'DENY'])}, ${selector}rules: ${rules} }`,
  );
}

type Pair = { readonly source: LabNode; readonly sourceIp: string; readonly ip: string; readonly port: number };

/** Two different nodes with an agent on at least one side; the service's address only for who has an agent. */
function randomPair(): Pair {
  const outside = mesh.lab.host('outside');
  const nodes = [...mesh.lab.workloads, outside] as unknown as [LabNode, ...LabNode[]];
  for (;;) {
    const [source, destination, family] = [pick(nodes), pick(nodes), pick(families)];
    if (source === destination) continue;
    const sourceIp = source[family];
    if (source !== outside && random() < 0.15) return { source, sourceIp, ip: mesh.lab.vip('store')[family], port: 80 };
    return { source, sourceIp, ip: destination[family], port: pick([5432, 6379, 8000, 8001]) };
  }
}

function randomPairs(): Pair[] {
  const chosen = new Map<string, Pair>();
  while (chosen.size < pairs) {
    const pair = randomPair();
    chosen.set(`${pair.sourceIp} ${pair.ip} ${pair.port}`, pair);
  }
  return [...chosen.values()];
}

/** The record of the agent that decides first: the source's, or the destination's for a source without one. */
async function recordOf({ source, ip }: Pair, made: Attempt): Promise<AccessLogLine> {
  if (source instanceof LabWorkload) return recordAtSource(mesh, source, made);
  const host = mesh.lab.workloads.find((workload) => workload.ipv4 === ip || workload.ipv6 === ip)?.host ?? '';
  return mesh
    .agent(host)
    .waitForRecord(
      `the plain connection to ${made.dialled}`,
      (line) => line.requested === made.dialled && Date.parse(line.startedAt) >= made.startedAtMs,
    );
}

async function compare(pair: Pair): Promise<string> {
  const { source, sourceIp, ip, port } = pair;
  const made = await attempt(source, ip, port);
  const record = await recordOf(pair, made);
  const target = formatHostPort({ ip: parseIp(ip) ?? raise(ip), port });
  const answer = (await mesh.controller.culvertJson(['why', sourceIp, target])) as WhyAnswer;
  // Of a service, the explanation of the endpoint that the agent chose.
  const explained = [answer, ...answer.others].find(
    ({ facts }) => formatHostPort({ ip: facts.destination.ip, port: facts.port }) === record.destinationAddress,
  );
  const what = `seed ${seed}: ${sourceIp} → ${target}, record ${JSON.stringify(record)}`;
  assert.ok(explained !== undefined, `culvert why does not know the endpoint; ${what}`);
  const { verdict, reason, rule, audited } = explained.decision;
  assert.deepEqual(
    {
      verdict: made.outcome === 'OK' ? 'allow' : 'deny',
      outcome: made.outcome,
      reason: record.reason,
      rule: record.rule,
      audited: record.audited ?? [],
      revision: record.revision,
    },
    {
      verdict,
      outcome: verdict === 'allow' ? 'OK' : 'ECONNRESET',
      reason,
      rule: formatRuleRef(rule),
      audited: audited.map(formatRuleRef),
      revision: answer.revision,
    },
    what,
  );
  return verdict;
}

function raise(text: string): never {
  throw new Error(`"${text}" is no IP address`);
}

test(`culvert why says of ${pairs} random connections what the data plane does`, { timeout: 120_000 }, async () => {
  const rules = Array.from({ length: 8 }, (_, index) => randomRule(index));
  const policies = Array.from({ length: 2 }, (_, index) => randomPolicy(index));
  const settings = meshOf(`{ defaultAction: ${pick(['allow', 'audit', 'deny'])} }`);
  await mesh.apply(documents(settings, segment, ...rules, ...policies));
  const left = randomPairs();
  const verdicts: string[] = [];
  const ask = async (): Promise<void> => {
    for (let pair = left.pop(); pair !== undefined; pair = left.pop()) verdicts.push(await compare(pair));
  };
  await Promise.all(Array.from({ length: parallelQuestions }, ask));
  assert.equal(verdicts.length, pairs);
});
