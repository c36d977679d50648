import { readFileSync } from 'node:fs';
import { Agent } from 'node:https';
import process from 'node:process';
import { setTimeout as delay } from 'node:timers/promises';
import { parse } from 'yaml';
import { createLog } from '../../../shared/log.js';
import { nodeNamed } from '../../support/routing/names.js';
import { Quantiles } from '../quantiles.js';
import { ruleDocuments } from '../rule-documents.js';
import { followRegistry } from './followed-registry.js';
import { joinAgent, post, type Api } from './joined-agent.js';
import { report } from './peer-connections.js';

/**
 * `workload-churn.js CONTROLLER_URL CONTEXT_FILE NODE WORKLOADS RATE SECONDS`: changes the labels of RATE workloads a
 * second, each by an apply of its own over connections that are kept, while it follows the registry as an agent of the
 * node. Reports how long the answers took, and how long until a change was in the registry of the agent.
 */
const [url = '', contextFile = '', node = '', workloadsText = '', rateText = '', secondsText = ''] =
  process.argv.slice(2);
const [workloads, rate, seconds] = [Number(workloadsText), Number(rateText), Number(secondsText)];
const { token, ca } = parse(readFileSync(contextFile, 'utf8')) as { readonly token: string; readonly ca: string };
const api: Api = { url, token, ca, agent: new Agent({ keepAlive: true, maxSockets: 16, ca }) };
const { signal } = new AbortController();
const reachMs = 60_000;

type Change = { readonly startedAtMs: number; readonly sequence: number };
const waiting: Change[] = [];
const inForceMs: number[] = [];
const answerMs: number[] = [];
let reached = 0;
let failed = 0;
let alarms = 0;
let roots = 0;

process.on('SIGTERM', () => process.kill(process.pid, 'SIGKILL'));
const documents = ruleDocuments({ rules: 0, workloads, node: 'elsewhere' })
  .text.split('\n---\n')
  .slice(-workloads)
  .map((text) => JSON.parse(text) as { metadata: { labels: Record<string, string> } });

const { bus, credentials } = await joinAgent(api, nodeNamed(node), signal);
const follower = await followRegistry({
  bus,
  publicKeysPem: credentials.signingPublicKeys,
  log: createLog({ name: 'workload-churn', level: 'error' }),
  signal,
  onWhole: (sequence) => {
    if (sequence !== reached) roots += 1;
    reached = sequence;
    settle();
  },
  onAlarm: () => (alarms += 1),
});
while (!follower.isComplete) await delay(50);
report({ following: follower.entries.size });
roots = 0;

const beganAt = performance.now();
const changes: Promise<void>[] = [];
for (let number = 0; number < rate * seconds; number++) {
  const dueMs = beganAt + (number * 1000) / rate - performance.now();
  if (dueMs > 1) await delay(dueMs);
  changes.push(change(number));
}
await Promise.all(changes);
const tookMs = performance.now() - beganAt;
const deadline = performance.now() + reachMs;
while (waiting.length > 0 && performance.now() < deadline) await delay(5);
report({
  changes: answerMs.length,
  failed,
  alarms,
  unreached: waiting.length,
  roots,
  tookMs,
  ...spread('answer', answerMs),
  ...spread('inForce', inForceMs),
});

/** Spread over the registry, so that changes that come together are rarely of one page. */
async function change(number: number): Promise<void> {
  const document = documents[(number * 7919) % documents.length];
  if (document === undefined) return;
  const { metadata } = document;
  const labels = { ...metadata.labels, round: `r${number}` };
  const startedAtMs = performance.now();
  try {
    const text = JSON.stringify({ ...document, metadata: { ...metadata, labels } });
    const answer = (await post(api, '/v1/apply', { documents: text })) as { inventory: { sequence: number } };
    answerMs.push(performance.now() - startedAtMs);
    waiting.push({ startedAtMs, sequence: answer.inventory.sequence });
    settle();
  } catch (error) {
    failed += 1;
    process.stderr.write(`${String(error)}\n`);
  }
}

function settle(): void {
  const now = performance.now();
  const left = waiting.splice(0);
  for (const one of left) {
    if (one.sequence > reached) waiting.push(one);
    else inForceMs.push(now - one.startedAtMs);
  }
}

function spread(what: string, values: readonly number[]): Record<string, number> {
  const quantiles = new Quantiles({ values: Float64Array.from(values) });
  return {
    [`${what}MedianMs`]: quantiles.at(0.5),
    [`${what}P99Ms`]: quantiles.at(0.99),
    [`${what}MaxMs`]: quantiles.at(1),
  };
}
