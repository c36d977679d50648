import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import * as fc from 'fast-check';
import { ConnectionCut, TerminationSignal } from '../../../../../agent/dataplane/connection/termination-signal.js';
import type { TunnelStream } from '../../../../../agent/dataplane/engine/tunnel-stream.js';
import type { TunnelRequest } from '../../../../../agent/dataplane/tunnel/tunnel.js';
import { TunnelPool } from '../../../../../agent/dataplane/tunnel/tunnel-pool.js';
import { propertyRuns } from '../../../../support/property-runs.js';
import { serverIdentity, TestCa } from '../../../../support/tunnel/tunnel-certificates.js';
import { leanEngine as engine } from '../../../../support/tunnel/tunnel-lean-engine.js';
import { TunnelPair, withDeadline } from '../../../../support/tunnel/tunnel-pair.js';

/** A workload that opens connections as fast as it can: thousands wait for room in the tunnels, and few find it at a time. */
const requests = 1000;

let ca: TestCa;
before(async () => {
  ca = await TestCa.create();
});

test('requests that wait for room cost the thread no look each time that a few others find it', async ({ mock }) => {
  const looks = mock.method(TunnelPool.prototype, 'pick').mock;
  await using pair = await TunnelPair.start(engine, ca, { maxStreamsPerTunnel: 10 });
  pair.onConnect = (request: TunnelRequest) => void request.accept().on('error', () => {});
  const streams = await Promise.all(Array.from({ length: requests }, () => pair.stream()));
  assert.equal(streams.length, requests);
  assert.ok(looks.callCount() < 5 * requests, `${looks.callCount()} looks`);
  for (const stream of streams) stream.reset();
});

/** What frees room, or takes it away, while requests wait. */
const happenings = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('ask' as const), port: fc.constantFrom(5432, 6379) }) },
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('end' as const), which: fc.nat() }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('cut' as const), which: fc.nat() }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('lose' as const), which: fc.nat() }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'rotate' } as const) },
    { weight: 1, arbitrary: fc.constant({ kind: 'no dial' } as const) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('wait' as const), turns: fc.integer({ min: 1, max: 30 }) }) },
  ),
  { minLength: 20, maxLength: 60 },
);

test('whatever happens to tunnels and requests, each request ends, and none stays in a line', async () => {
  await fc.assert(
    fc.asyncProperty(happenings, async (all) => {
      await using pair = await TunnelPair.start(engine, ca, { maxStreamsPerTunnel: 2 });
      const { dialRaw } = pair;
      pair.onConnect = (request: TunnelRequest) => void request.accept().on('error', () => {});
      const signals: TerminationSignal[] = [];
      const streams: TunnelStream[] = [];
      const asked: Promise<unknown>[] = [];
      for (const happening of all) {
        if (happening.kind === 'ask') {
          for (let more = 0; more < 3; more++) {
            const signal = new TerminationSignal();
            const authority = { ip: pair.target().destinationIp, port: happening.port };
            signals.push(signal);
            const opened = pair.client.open(pair.authorized({ authority, signal }), pair.target());
            asked.push(opened.then((result) => result.ok && streams.push(result.stream)));
          }
        } else if (happening.kind === 'end') streams[happening.which % streams.length]?.reset();
        else if (happening.kind === 'cut') signals[happening.which % signals.length]?.raise(cut);
        else if (happening.kind === 'lose') pair.dialled[happening.which % pair.dialled.length]?.destroy();
        else if (happening.kind === 'rotate') pair.server.replaceCertificates(await ca.issue(serverIdentity));
        else if (happening.kind === 'no dial') {
          pair.dialRaw = (target) => {
            pair.dialRaw = dialRaw;
            const socket = dialRaw(target);
            socket.destroy();
            return socket;
          };
        } else for (let turn = 0; turn < happening.turns; turn++) await new Promise((next) => setImmediate(next));
      }
      await withDeadline('the end of every request', Promise.all(asked));
      // Nothing that happened keeps later ones waiting.
      pair.dialRaw = dialRaw;
      (await withDeadline('another request', pair.stream())).reset();
      for (const stream of streams) stream.reset();
    }),
    { numRuns: propertyRuns(40) },
  );
});

const cut = new ConnectionCut({ reason: 'DRAIN' });
