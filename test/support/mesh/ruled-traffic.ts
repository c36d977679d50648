import assert from 'node:assert/strict';
import type { AccessLogLine } from '../../../agent/telemetry/access-log.js';
import { formatHostPort } from '../../../shared/address.js';
import { LabWorkload, type LabNode } from '../../lab/lab-node.js';
import type { Mesh } from '../../lab/mesh.js';
import { waitUntil } from '../../lab/wait-until.js';
import { recordAtDestination } from './attempt.js';
import { ask, HeldConnection, startEcho } from './echo-traffic.js';

/** A connection, and how its records are found. */
type Made = {
  readonly from: LabNode;
  readonly to: LabNode;
  readonly requested: string;
  readonly startedAtMs: number;
  /** It had begun by then. The client's port would not do: the kernel may give it another one when it redirects it. */
  readonly begunAtMs: number;
};

/** A connection that stays open. */
export type OpenConnection = Made & { readonly held: HeldConnection };

export type Verdict = {
  readonly rule: string;
  /** `OK` for what passes. */
  readonly reason: string;
  readonly audited?: readonly string[];
};

/** Connections between nodes of a mesh, each compared with what the agents logged of it. */
export class RuledTraffic {
  readonly #mesh: Mesh;

  constructor(init: { readonly mesh: Mesh }) {
    this.#mesh = init.mesh;
  }

  /** Every workload, and what is outside, echoes on these ports. */
  async serve(ports: readonly number[], outside: readonly LabNode[]): Promise<void> {
    const nodes = [...this.#mesh.lab.workloads, ...outside];
    await Promise.all(nodes.flatMap((node) => ports.map((port) => startEcho(node, port))));
  }

  /** The connection carries bytes, and every agent on its way says so with this rule. Returns the first record. */
  async passes(from: LabNode, to: LabNode, port: number, verdict: Partial<Verdict> = {}): Promise<AccessLogLine> {
    const expected = { rule: 'Mesh/default', reason: 'OK', ...verdict };
    const { outcome, made } = await this.#ask(from, to, port);
    const what = `${from.name} → ${to.name}:${port}`;
    const record = await this.#firstRecord(made);
    assert.equal(outcome, 'ok', `${what} ${JSON.stringify(record)}`);
    assertVerdict(record, expected, what);
    if (record.path === 'hbone' && to instanceof LabWorkload) {
      assertVerdict(await recordAtDestination(this.#mesh, to, record), expected, `${what}, inbound`);
    }
    return record;
  }

  /** The client is reset, and the agent that decides names rule and reason. Returns its record. */
  async isRefused(from: LabNode, to: LabNode, port: number, verdict: Verdict): Promise<AccessLogLine> {
    const { outcome, made } = await this.#ask(from, to, port);
    const record = await this.#firstRecord(made);
    const what = `${from.name} → ${to.name}:${port}`;
    assert.equal(outcome, 'ECONNRESET', `${what} ${JSON.stringify(record)}`);
    assertVerdict(record, verdict, what);
    assert.match(record.next ?? '', /^culvert /, what);
    return record;
  }

  async open(from: LabNode, to: LabNode, port: number): Promise<OpenConnection> {
    const startedAtMs = Date.now();
    const held = await HeldConnection.open(from, { ip: to.ipv4, port });
    const requested = formatHostPort({ ip: to.ipv4, port });
    const begunAtMs = Date.now();
    // Whatever is dialled from here on begins later, by a clock of milliseconds too.
    await waitUntil('the clock goes on', () => (Date.now() > begunAtMs ? true : undefined));
    return { from, to, requested, startedAtMs, begunAtMs, held };
  }

  /** The change resets the connection, and every agent on its way says which rule did. */
  async isCut(connection: OpenConnection, rule: string, change: () => Promise<number>): Promise<void> {
    const { from, to, held, requested } = connection;
    const ended = held.ending();
    const revision = await change();
    const what = `${from.name} → ${requested}`;
    assert.equal(await ended, 'ECONNRESET', what);
    const expected = { rule, reason: 'POLICY_TERMINATED' };
    const record = await this.#firstRecord(connection);
    assertVerdict(record, expected, what);
    assert.equal(record.revision, revision, what);
    if (!(to instanceof LabWorkload) || record.path !== 'hbone') return;
    const inbound = await recordAtDestination(this.#mesh, to, record);
    assertVerdict(inbound, expected, `${what}, inbound`);
    assert.equal(inbound.revision, revision, `${what}, inbound`);
  }

  async #ask(from: LabNode, to: LabNode, port: number): Promise<{ outcome: string; made: Made }> {
    const startedAtMs = Date.now();
    const outcome = await ask(from, { ip: to.ipv4, port });
    const requested = formatHostPort({ ip: to.ipv4, port });
    return { outcome, made: { from, to, requested, startedAtMs, begunAtMs: Date.now() } };
  }

  /** Of the agent that decides first: the source's, or the destination's for a source without one. */
  #firstRecord({ from, to, requested, startedAtMs, begunAtMs }: Made): Promise<AccessLogLine> {
    const host = hostOf(from) ?? hostOf(to);
    assert.ok(host !== undefined, 'no agent is on this way');
    const isFrom = ({ direction, sourceWorkload, sourceAddress }: AccessLogLine): boolean =>
      from instanceof LabWorkload
        ? direction === 'outbound' && sourceWorkload === from.meshName
        : direction === 'inbound' && sourceAddress?.startsWith(`${from.ipv4}:`) === true;
    return this.#mesh
      .agent(host)
      .waitForRecord(
        `the connection from ${from.name} to ${requested}`,
        (line) =>
          isFrom(line) &&
          line.requested === requested &&
          Date.parse(line.startedAt) >= startedAtMs &&
          Date.parse(line.startedAt) <= begunAtMs,
      );
  }
}

function hostOf(node: LabNode): string | undefined {
  return node instanceof LabWorkload ? node.host : undefined;
}

function assertVerdict(line: AccessLogLine, { rule, reason, audited = [] }: Verdict, what: string): void {
  const seen = { rule: line.rule, reason: line.reason, audited: line.audited ?? [] };
  assert.deepEqual(seen, { rule, reason, audited }, what);
}
