import assert from 'node:assert/strict';
import type { AccessLogLine } from '../../agent/telemetry/access-log.js';
import type { WhyAnswer } from '../../controller/api/api-types.js';
import { formatHostPort } from '../../shared/address.js';
import { formatRuleRef } from '../../shared/policy/connection.js';
import type { LabNode } from '../lab/lab-node.js';
import type { Mesh } from '../lab/mesh.js';
import { waitUntil } from '../lab/wait-until.js';
import { HeldConnection } from './echo-traffic.js';
import type { Pair } from './why-pairs.js';

type Held = { readonly pair: Pair; readonly connection: HeldConnection };

/** What became of the open connections by one change of rules. `reprieved`: denied, but a drain or a keep spares them. */
export type Judgement = { readonly cut: number; readonly spared: number; readonly reprieved: number };

/** Connections that stay open while rules change, each compared with what `culvert why` says after the change. */
export class HeldPairs {
  readonly #mesh: Mesh;
  readonly #nodeNamed: (name: string) => LabNode;
  #held: Held[] = [];

  constructor(init: { readonly mesh: Mesh; readonly nodeNamed: (name: string) => LabNode }) {
    this.#mesh = init.mesh;
    this.#nodeNamed = init.nodeNamed;
  }

  /** Opens one for each pair; all must be allowed. Not for addresses of services: the agent chooses whom they mean. */
  async open(pairs: readonly Pair[]): Promise<void> {
    for (const pair of pairs) {
      const connection = await HeldConnection.open(this.#nodeNamed(pair.source), pair);
      this.#held.push({ pair, connection });
    }
  }

  /**
   * Every agent enforces `revision`: what it denies must be reset, with a record at each agent that names the rule, and
   * what it allows must carry bytes. `what` names the case in failures.
   */
  async judge(revision: number, askWhy: (pair: Pair) => Promise<WhyAnswer>, what: string): Promise<Judgement> {
    const judged = await Promise.all(
      this.#held.map(async (held) => ({ ...held, decision: (await askWhy(held.pair)).decision })),
    );
    const denied = judged.filter(({ decision }) => decision.verdict === 'deny');
    const doomed = denied.filter(({ decision }) => decision.onChange.kind === 'terminate');
    const spared = judged.filter((one) => !doomed.includes(one));
    for (const { pair, connection, decision } of doomed) {
      const rule = formatRuleRef(decision.rule);
      const which = `${what}: ${pair.sourceIp} → ${pair.ip}:${pair.port} (${pair.kinds.join(', ')}), denied by ${rule}`;
      const ending = await connection.ending().catch(() => 'open');
      assert.equal(ending, 'ECONNRESET', which);
      for (const record of await this.#recordsOf({ pair, connection }, revision, which)) {
        assert.deepEqual(
          [record.reason, record.rule],
          ['POLICY_TERMINATED', rule],
          `${which}: ${JSON.stringify(record)}`,
        );
      }
    }
    for (const { pair, connection, decision } of spared) {
      const which = `${what}: ${pair.sourceIp} → ${pair.ip}:${pair.port}, ${decision.verdict} by ${formatRuleRef(decision.rule)}`;
      await connection.exchange().catch((cause: unknown) => assert.fail(`${which}: ${String(cause)}`));
    }
    this.#held = spared.map(({ pair, connection }) => ({ pair, connection }));
    return { cut: doomed.length, spared: spared.length, reprieved: denied.length - doomed.length };
  }

  /** Of the agent that decided first, and of the other one when there was a tunnel. */
  async #recordsOf({ pair, connection }: Held, revision: number, what: string): Promise<AccessLogLine[]> {
    const source = formatHostPort({ ip: pair.sourceIp, port: connection.localPort });
    const requested = formatHostPort({ ip: pair.ip, port: pair.port });
    const first = await this.#mesh
      .agent(pair.decidedOn)
      .waitForRecord(
        what,
        (line) => line.sourceAddress === source && line.requested === requested && line.revision === revision,
      );
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
