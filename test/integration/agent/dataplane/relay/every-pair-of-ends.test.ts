import * as fc from 'fast-check';
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { setImmediate as turn, setTimeout as pause } from 'node:timers/promises';
import type { RelayOutcome } from '../../../../../agent/dataplane/relay/relay.js';
import { endings, EndingApplication, mostBytes, type Plan } from '../../../../support/agent/ending-application.js';
import { engineOf, isNumbered, RelayRoad, type RoadKind } from '../../../../support/agent/relay-road.js';
import { propertyRuns } from '../../../../support/property-runs.js';
import { TestCa } from '../../../../support/tunnel/tunnel-certificates.js';
import { TunnelPair, withDeadline } from '../../../../support/tunnel/tunnel-pair.js';

let ca: TestCa;
before(async () => {
  ca = await TestCa.create();
});

const orders = ['client first', 'server first', 'together', 'one turn apart'] as const;
type Case = { readonly client: Plan; readonly server: Plan; readonly order: (typeof orders)[number] };
const amounts = [0, 10, mostBytes];
/** Where the applications see nothing of what has happened. */
const apartMs = 20;

const plans = fc.record({
  bytes: fc.constantFrom(...amounts, 100_000),
  reads: fc.boolean(),
  ending: fc.constantFrom(...endings),
});
const cases: fc.Arbitrary<Case> = fc.record({ client: plans, server: plans, order: fc.constantFrom(...orders) });

/** Both applications do the same amount, and both read or neither does: each pair of ends, in each order. */
function everyCase(): Case[] {
  const all: Case[] = [];
  for (const bytes of amounts) {
    for (const reads of [true, false]) {
      for (const client of endings) {
        for (const server of endings) {
          for (const order of orders) {
            all.push({ client: { bytes, reads, ending: client }, server: { bytes, reads, ending: server }, order });
          }
        }
      }
    }
  }
  return all;
}

type Seen = {
  readonly client: EndingApplication;
  readonly server: EndingApplication;
  readonly near: RelayOutcome;
  readonly far: RelayOutcome;
  readonly counted: { readonly bytesSent: number; readonly bytesReceived: number };
};

/** Starts roads one after the other, through one tunnel: a handshake for each would cost more than all else. */
class Roads implements AsyncDisposable {
  readonly #kind: RoadKind;
  readonly #pair: TunnelPair | null;
  #last: Promise<unknown> = Promise.resolve();

  private constructor(kind: RoadKind, pair: TunnelPair | null) {
    this.#kind = kind;
    this.#pair = pair;
  }

  static async of(kind: RoadKind): Promise<Roads> {
    const engine = engineOf(kind);
    if (engine === null) return new Roads(kind, null);
    const patient = { tlsHandshakeTimeoutMs: 60_000, connectTimeoutMs: 60_000 };
    return new Roads(kind, await TunnelPair.start(engine, ca, patient));
  }

  async start(): Promise<RelayRoad> {
    const pair = this.#pair;
    if (pair === null) return await RelayRoad.start(this.#kind, ca);
    const started = this.#last.then(() => RelayRoad.through(pair, { isNumbered: isNumbered(this.#kind) }));
    this.#last = started.catch(() => {});
    return await started;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pair?.[Symbol.asyncDispose]();
  }
}

async function run(roads: Roads, { client: clientPlan, server: serverPlan, order }: Case): Promise<Seen> {
  await using road = await roads.start();
  const client = new EndingApplication({ socket: road.client, plan: clientPlan, other: serverPlan });
  const server = new EndingApplication({ socket: road.server, plan: serverPlan, other: clientPlan });
  const [first, second] = order === 'server first' ? [server, client] : [client, server];
  if (areSmall({ client: clientPlan, server: serverPlan })) await Promise.all([client.whole, server.whole]);
  else await pause(apartMs);
  first.end(second);
  if (order === 'one turn apart') await turn();
  else if (order !== 'together') {
    const [ending, reader] = first === client ? [clientPlan, serverPlan] : [serverPlan, clientPlan];
    if (ending.ending === 'reset') await Promise.all([road.outcome, road.farOutcome]);
    else if (reader.reads) await second.sawEnding;
    else await pause(apartMs);
  }
  second.end(first);
  const all = Promise.all([road.outcome, road.farOutcome, client.closed, server.closed]);
  const [near, far] = await withDeadline('the end of both sides and both records', all);
  assert.equal(road.backpressure.waiting().bytesInAll, 0);
  return { client, server, near, far, counted: road.counters };
}

/** The model: what must hold of an end, whatever the relay does in between. */
function check(one: Case, { client, server, near, far, counted }: Seen): void {
  const sides = [
    {
      name: 'client',
      plan: one.client,
      self: client,
      other: server,
      otherPlan: one.server,
      got: counted.bytesReceived,
    },
    { name: 'server', plan: one.server, self: server, other: client, otherPlan: one.client, got: counted.bytesSent },
  ];
  for (const { name, plan, self, other, otherPlan, got } of sides) {
    assert.ok(self.received <= otherPlan.bytes, `the ${name} got more than was sent`);
    assert.ok(self.received <= got, `the ${name} got more than was counted`);
    if (otherPlan.ending === 'reset') assert.equal(self.sawEnd, false, `a reset looked like an end to the ${name}`);
    const isWhole = self.sawEnd && otherPlan.ending === 'fin' && other.sentAll && plan.reads;
    if (isWhole) assert.equal(self.received, otherPlan.bytes, `an end after too few bytes at the ${name}`);
  }
  for (const { reason } of [near, far]) assert.match(reason, /^(?:OK|CLIENT_RESET|PEER_RESET)$/);
  const reasons = [near.reason, far.reason];
  const expected = expectedReason(one);
  if (expected !== null) assert.deepEqual(reasons, [expected, expected]);
}

/** All of it has arrived before anything ends. */
function areSmall(plans: Pick<Case, 'client' | 'server'>): boolean {
  return [plans.client, plans.server].every(({ bytes, reads }) => bytes <= 10 && reads);
}

/** Null where the kernel decides by what has arrived when. */
function expectedReason({ client, server, order }: Case): string | null {
  if (client.reads && server.reads && client.ending === 'fin' && server.ending === 'fin') return 'OK';
  if (!areSmall({ client, server })) return null;
  if (order === 'client first' && client.ending === 'reset') return 'CLIENT_RESET';
  if (order === 'server first' && server.ending === 'reset') return 'PEER_RESET';
  // It had ended, and the other one had answered: the reset tells only how the other one closes.
  if (order === 'client first' && client.ending === 'fin' && server.ending === 'reset')
    return server.bytes > 0 ? 'OK' : 'PEER_RESET';
  if (order === 'server first' && server.ending === 'fin' && client.ending === 'reset')
    return client.bytes > 0 ? 'OK' : 'CLIENT_RESET';
  return null;
}

async function runAndCheck(roads: Roads, one: Case): Promise<void> {
  try {
    check(one, await run(roads, one));
  } catch (error) {
    throw new Error(JSON.stringify(one), { cause: error });
  }
}

const atOnce = 8;

for (const kind of ['socket', 'tunnel', 'lean tunnel', 'numbered socket', 'numbered lean tunnel'] as const) {
  describe(`both sides and the record end over a ${kind}`, () => {
    it('for each pair of ends, in each order, at each amount of data', async () => {
      await using roads = await Roads.of(kind);
      const left = everyCase();
      const work = async (): Promise<void> => {
        for (let one = left.pop(); one !== undefined; one = left.pop()) await runAndCheck(roads, one);
      };
      await Promise.all(Array.from({ length: atOnce }, work));
    });

    it('when the two applications do different things', async () => {
      await using roads = await Roads.of(kind);
      await fc.assert(
        fc.asyncProperty(fc.array(cases, { minLength: atOnce, maxLength: atOnce }), async (some) => {
          await Promise.all(some.map((one) => runAndCheck(roads, one)));
        }),
        { numRuns: propertyRuns(20), endOnFailure: true },
      );
    });
  });
}
