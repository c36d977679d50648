import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import process from 'node:process';
import { parse } from 'yaml';
import { joinMesh } from '../../../agent/control/join/join.js';
import { RulesFollower } from '../../../agent/control/followers/rules-follower.js';
import { connectBus } from '../../../shared/bus/connect-bus.js';
import { buckets, inboxPrefixFor, rulesPointerKey, subjectFor } from '../../../shared/bus/subjects.js';
import { createLog } from '../../../shared/log.js';
import type { Snapshot } from '../../../shared/policy/snapshot.js';
import { encodeWire, type Heartbeat } from '../../../shared/wire/requests.js';
import { openSnapshot } from '../../../shared/wire/signed.js';
import { report } from './peer-connections.js';
import { nodeNamed } from '../../support/routing/names.js';

/**
 * `simulated-agents.js CONTROLLER_URL CONTEXT_FILE PREFIX COUNT`: COUNT agents without a data plane. Each joins with its own
 * token and credential, follows the rules over its own connection to NATS, fetches the signed snapshot of each revision, and
 * reports its state to the controller. When all have a revision, the program reports the times of the first and the last.
 *
 * They share one step: a snapshot is decoded once for all of them, since real agents do not share a CPU.
 */
const [controllerUrl = '', contextFile = '', prefix = '', countText = '0'] = process.argv.slice(2);
const count = Number(countText);
const { token, ca } = parse(readFileSync(contextFile, 'utf8')) as { readonly token: string; readonly ca: string };
const abort = new AbortController();
const log = createLog({ name: 'simulated-agents', level: 'error' });
const heartbeatMs = 5000;
const joinsAtOnce = 8;

type Arrivals = { count: number; firstAtMs: number };
const arrivals = new Map<number, Arrivals>();
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
  const credentials = await joinMesh({
    controllerUrl,
    token: await createToken(node),
    node: nodeNamed(node),
    version: 'simulated',
    signal: abort.signal,
  });
  const { natsServers, natsServerName, natsCaPem, rootsPem, natsJwt, natsSeed } = credentials;
  const bus = await connectBus({
    servers: natsServers,
    tls: { caPem: natsCaPem ?? rootsPem, ...(natsServerName === null ? {} : { servername: natsServerName }) },
    auth: { kind: 'jwt', jwt: () => natsJwt, seed: () => natsSeed },
    name: `culvert-agent ${node}`,
    inboxPrefix: inboxPrefixFor(nodeNamed(node)),
    signal: abort.signal,
  });
  let applied: number | null = null;
  const beat = (): void => {
    const heartbeat: Heartbeat = {
      node: nodeNamed(node),
      version: 'simulated',
      appliedRevision: applied,
      enforcedByAllWorkers: true,
      registrySequence: null,
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
    log,
    onRules: ({ snapshot: { revision } }) => {
      applied = revision;
      arrive(revision);
      beat();
    },
    onAlarm: (kind) => process.stderr.write(`${node} rejected its rules: ${kind}\n`),
  });
  const check = (): void => void rules.check();
  bucket.watch({ key: rulesPointerKey, onEntry: check, onReady: check, signal: abort.signal });
  setInterval(beat, heartbeatMs);
}

function arrive(revision: number): void {
  const now = Date.now();
  const seen = arrivals.get(revision) ?? { count: 0, firstAtMs: now };
  seen.count += 1;
  arrivals.set(revision, seen);
  if (seen.count === count) report({ revision, firstAtMs: seen.firstAtMs, lastAtMs: now });
}

function openOnce(sealed: Uint8Array, publicKeysPem: readonly string[]): Snapshot {
  const hash = createHash('sha256').update(sealed).digest('hex');
  const snapshot = opened.get(hash) ?? openSnapshot({ bytes: sealed, publicKeysPem });
  opened.clear();
  opened.set(hash, snapshot);
  return snapshot;
}

function createToken(node: string): Promise<string> {
  const body = JSON.stringify({ node });
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  return new Promise((resolve, reject) => {
    const sent = request(new URL('/v1/tokens', controllerUrl), { method: 'POST', headers, ca }, (response) => {
      const chunks: Buffer[] = [];
      response.on('error', reject);
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        const answer = JSON.parse(text) as { token?: string };
        if (answer.token === undefined) reject(new Error(`no token for ${node}: ${text}`));
        else resolve(answer.token);
      });
    });
    sent.on('error', reject);
    sent.end(body);
  });
}
