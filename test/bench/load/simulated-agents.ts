import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import process from 'node:process';
import { parse } from 'yaml';
import { RulesFollower } from '../../../agent/control/followers/rules-follower.js';
import { buckets, rulesPointerKey, subjectFor } from '../../../shared/bus/subjects.js';
import { createLog } from '../../../shared/log.js';
import type { Snapshot } from '../../../shared/policy/snapshot.js';
import { encodeWire, type Heartbeat } from '../../../shared/wire/requests.js';
import { openSnapshot } from '../../../shared/wire/signed.js';
import { followRegistry } from './followed-registry.js';
import { joinAgent, type Api } from './joined-agent.js';
import { report } from './peer-connections.js';
import { nodeNamed } from '../../support/routing/names.js';

/**
 * `simulated-agents.js CONTROLLER_URL CONTEXT_FILE PREFIX COUNT`: COUNT agents without a data plane. Each joins with its own
 * token and credential, follows rules and registry over its own connection to NATS, fetches the signed snapshot of each
 * revision, and reports its state to the controller. When all have a revision of the rules, or a sequence of the inventory,
 * the program reports the times of the first and the last.
 *
 * They share one step: a snapshot is decoded once for all of them, since real agents do not share a CPU.
 */
const [controllerUrl = '', contextFile = '', prefix = '', countText = '0'] = process.argv.slice(2);
const count = Number(countText);
const context = parse(readFileSync(contextFile, 'utf8')) as { readonly token: string; readonly ca: string };
const api: Api = { url: controllerUrl, ...context };
const abort = new AbortController();
const log = createLog({ name: 'simulated-agents', level: 'error' });
const heartbeatMs = 5000;
const joinsAtOnce = 8;

type Arrivals = { count: number; firstAtMs: number };
/** By what has arrived, such as `revision 7`. */
const arrivals = new Map<string, Arrivals>();
const opened = new Map<string, Snapshot>();
let next = 0;

process.on('SIGTERM', () => process.kill(process.pid, 'SIGKILL'));
const startedAt = Date.now();
await Promise.all(
  Array.from({ length: joinsAtOnce }, async () => {
    while (next < count) await startAgent(`${prefix}-${next++}`);
  }),
);
report({ joined: count, tookMs: Date.now() - startedAt });

async function startAgent(node: string): Promise<void> {
  const { bus, credentials } = await joinAgent(api, nodeNamed(node), abort.signal);
  let applied: number | null = null;
  let registered: number | null = null;
  const beat = (): void => {
    const heartbeat: Heartbeat = {
      node: nodeNamed(node),
      version: 'simulated',
      appliedRevision: applied,
      enforcedByAllWorkers: true,
      registrySequence: null,
      inventorySequence: registered,
      nowMs: Date.now(),
      startedAtMs: startedAt,
      workloads: [],
      pending: [],
    };
    bus.publish(subjectFor('status', nodeNamed(node)), encodeWire(heartbeat));
  };
  const bucket = await bus.bucket(buckets.rules);
  const rules = new RulesFollower({
    bucket,
    trustDomain: credentials.trustDomain,
    open: (sealed) => openOnce(sealed, credentials.signingPublicKeys),
    applied: null,
    leastRevision: () => 0,
    log,
    onRules: ({ snapshot: { revision } }) => {
      applied = revision;
      arrive('revision', revision);
      beat();
    },
    onAlarm: (kind) => process.stderr.write(`${node} rejected its rules: ${kind}\n`),
  });
  const check = (): void => void rules.check();
  bucket.watch({ key: rulesPointerKey, onEntry: check, onReady: check, signal: abort.signal });
  await followRegistry({
    bus,
    publicKeysPem: credentials.signingPublicKeys,
    log,
    signal: abort.signal,
    onWhole: (sequence) => {
      registered = sequence;
      arrive('inventory', sequence);
    },
    onAlarm: () => process.stderr.write(`${node} refused a part of its registry\n`),
  });
  setInterval(beat, heartbeatMs);
}

function arrive(what: 'revision' | 'inventory', number: number): void {
  const now = Date.now();
  const key = `${what} ${number}`;
  const seen = arrivals.get(key) ?? { count: 0, firstAtMs: now };
  seen.count += 1;
  arrivals.set(key, seen);
  if (seen.count === count) report({ [what]: number, firstAtMs: seen.firstAtMs, lastAtMs: now });
}

function openOnce(sealed: Uint8Array, publicKeysPem: readonly string[]): Snapshot {
  const hash = createHash('sha256').update(sealed).digest('hex');
  const snapshot = opened.get(hash) ?? openSnapshot({ bytes: sealed, publicKeysPem });
  opened.clear();
  opened.set(hash, snapshot);
  return snapshot;
}
