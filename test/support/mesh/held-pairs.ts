import assert from 'node:assert/strict';
import type { AccessLogLine } from '../../../agent/telemetry/access-log.js';
import type { WhyAnswer } from '../../../controller/api/api-types.js';
import { formatHostPort } from '../../../shared/address.js';
import { formatRuleRef } from '../../../shared/policy/connection.js';
import type { LabNode } from '../../lab/lab-node.js';
import type { Mesh } from '../../lab/mesh.js';
import { waitUntil } from '../../lab/wait-until.js';
import { HeldConnection } from './echo-traffic.js';
import type { Pair } from './why-pairs.js';

type Held = {
  readonly pair: Pair;
  readonly connection: HeldConnection;
  /** It began between these; no other one of the pair did. */
  readonly fromMs: number;
  readonly toMs: number;
};

/** What became of the open connections by one change of rules. `inGrace`: denied, but a drain or a keep spares them. */
export type Judgement = { readonly cut: number; readonly spared: number; readonly inGrace: number };

/** Connections that stay open while rules change, each compared with what `culvert why` says after the change. */
export class HeldPairs {
  readonly #mesh: Mesh;
  readonly #nodeNamed: (name: string) => LabNode;
  #held: Held[] = [];

  constructor(init: { readonly mesh: Mesh; readonly nodeNamed: (name: string) => LabNode }) {
    this.#mesh = init.mesh;
    this.#nodeNamed = init.nodeNamed;
  }

  /** Opens one per pair; all must be allowed. Not for service addresses, whose endpoint the agent chooses. */
  async open(pairs: readonly Pair[]): Promise<void> {
    for (const pair of pairs) {
      const fromMs = Date.now();
      const connection = await HeldConnection.open(this.#nodeNamed(pair.source), pair);
      this.#held.push({ pair, connection, fromMs, toMs: Date.now() });
    }
  }

  /**
   * Every agent enforces `revision`: what it denies must be reset, with a record at each agent that names the rule, and
   * what it allows must carry bytes. `what` names the case in failures.
   */
  async judge(revision: number, askWhy: (pair: Pair) => Promise<WhyAnswer>, what: string): Promise<Judgement> {
    const judged = await Promise.all(
      this.#held.map(async (held) => ({ held, decision: (await askWhy(held.pair)).decision })),
    );
    const denied = judged.filter(({ decision }) => decision.verdict === 'deny');
    const doomed = denied.filter(({ decision }) => decision.onChange.kind === 'terminate');
    const spared = judged.filter((one) => !doomed.includes(one));
    for (const { held, decision } of doomed) {
      const { pair, connection } = held;
      const rule = formatRuleRef(decision.rule);
      const which = `${what}: ${pair.sourceIp} → ${pair.ip}:${pair.port} (${pair.kinds.join(', ')}), denied by ${rule}`;
      const ending = await connection.ending().catch(() => 'open');
      assert.equal(ending, 'ECONNRESET', which);
      for (const record of await this.#recordsOf(held, revision, which)) {
        assert.deepEqual(
          [record.reason, record.rule],
          ['POLICY_TERMINATED', rule],
          `${which}: ${JSON.stringify(record)}`,
        );
      }
    }
    for (const { held, decision } of spared) {
      const { pair, connection } = held;
      const which = `${what}: ${pair.sourceIp} → ${pair.ip}:${pair.port}, ${decision.verdict} by ${formatRuleRef(decision.rule)}`;
      await connection.exchange().catch((cause: unknown) => assert.fail(`${which}: ${String(cause)}`));
    }
    this.#held = spared.map(({ held }) => held);
    return { cut: doomed.length, spared: spared.length, inGrace: denied.length - doomed.length };
  }

  /**
   * Of the agent that decided first, and of the other one when there was a tunnel. Found by its time and not by the
   * client's port: the kernel gives a connection another one when it redirects it and that port was in use just before.
   */
  async #recordsOf({ pair, fromMs, toMs }: Held, revision: number, what: string): Promise<AccessLogLine[]> {
    const source = formatHostPort({ ip: pair.sourceIp, port: 0 }).slice(0, -1);
    const requested = formatHostPort(pair);
    const isIt = (line: AccessLogLine): boolean => {
      const startedAtMs = Date.parse(line.startedAt);
      const isItsTime = startedAtMs >= fromMs && startedAtMs <= toMs;
      return isItsTime && line.requested === requested && line.sourceAddress?.startsWith(source) === true;
    };
    const first = await this.#mesh.agent(pair.decidedOn).waitForRecord(what, isIt);
    assert.equal(first.revision, revision, what);
    if (first.path !== 'hbone') return [first];
    const other = await waitUntil(`the other agent logs ${what}`, () =>
      this.#mesh.agents
        .filter(({ name }) => name !== pair.decidedOn)
        .flatMap((agent) => agent.records())
        .find((line) => line.traceId === first.traceId),
    );
    assert.equal(other.revision, revision, what);
    return [first, other];
  }
}
