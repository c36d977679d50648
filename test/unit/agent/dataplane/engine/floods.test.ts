import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { errorCode } from '../../../../../agent/dataplane/engine/http2-error-code.js';
import { encodeFrame, endHeaders, frameType } from '../../../../support/tunnel/tunnel-raw-peer.js';
import { connectFrame, startedServer, uint32, type EngineProbe } from '../../../../support/http2/engine-fixture.js';

/** Sends it again and again, and fetches the answers, until the connection is ended; returns how often it took. */
function flood(probe: EngineProbe, make: (round: number) => Buffer, limit = 5000): number {
  for (let round = 0; round < limit; round++) {
    probe.engine.receive(make(round));
    if (probe.failure !== null) {
      assert.equal(probe.sentCode(frameType.goaway), errorCode.enhanceYourCalm);
      return round;
    }
    probe.frames();
  }
  return limit;
}

function streamId(round: number): number {
  return 3 + 2 * round;
}

describe('the engine ends a connection whose peer', () => {
  const floods: [what: string, make: (round: number) => Buffer, atLeast: number][] = [
    [
      'opens and resets streams (CVE-2023-44487)',
      (round) =>
        Buffer.concat([connectFrame(streamId(round)), encodeFrame(frameType.rst, 0, streamId(round), uint32(8))]),
      900,
    ],
    ['asks by PING (CVE-2019-9512)', () => encodeFrame(frameType.ping, 0, 0, Buffer.alloc(8)), 900],
    ['asks by SETTINGS (CVE-2019-9515)', () => encodeFrame(frameType.settings, 0, 0), 900],
    ['sends empty DATA (CVE-2019-9518)', () => encodeFrame(frameType.data, 0, 1), 900],
    ['sends PRIORITY (CVE-2019-9513)', () => encodeFrame(2, 0, 1, Buffer.alloc(5)), 900],
    ['sends frames of unknown types', () => encodeFrame(0xee, 0, 1), 900],
    ['opens streams that are malformed', (round) => encodeFrame(frameType.headers, endHeaders, streamId(round)), 90],
    ['opens more streams than it may', (round) => connectFrame(streamId(round)), 90],
  ];
  for (const [what, make, atLeast] of floods) {
    it(what, () => {
      const rounds = flood(startedServer(), make);
      assert.ok(rounds >= atLeast && rounds < 5000, `after ${rounds}`);
    });
  }

  it('sends CONTINUATION without end (CVE-2024-27316)', () => {
    const probe = startedServer();
    probe.engine.receive(connectFrame(3, 0));
    assert.ok(flood(probe, () => encodeFrame(frameType.continuation, 0, 3, Buffer.from([0]))) < 40);
    const large = startedServer();
    large.engine.receive(connectFrame(3, 0));
    assert.ok(flood(large, () => encodeFrame(frameType.continuation, 0, 3, Buffer.alloc(20_000))) < 5);
  });

  it('does not fetch the answers', () => {
    const probe = startedServer();
    // Slowly, so that their number is no flood: what is not fetched is.
    const ping = encodeFrame(frameType.ping, 0, 0, Buffer.alloc(8));
    for (let round = 0; round < 30_000 && probe.failure === null; round++) {
      probe.nowMs += 100;
      probe.engine.receive(ping);
    }
    assert.match(probe.failure ?? '', /ENHANCE_YOUR_CALM: answers that the peer does not read/);
  });

  it('puts too many settings into a frame', () => {
    const probe = startedServer();
    probe.engine.receive(encodeFrame(frameType.settings, 0, 0, Buffer.alloc(6 * 65, 0)));
    assert.equal(probe.sentCode(frameType.goaway), errorCode.enhanceYourCalm);
  });
});

describe('the engine bears an honest peer that', () => {
  it('resets a few streams a second for ever', () => {
    const probe = startedServer();
    const rounds = flood(
      probe,
      (round) => {
        probe.nowMs += 40;
        return Buffer.concat([
          connectFrame(streamId(round)),
          encodeFrame(frameType.rst, 0, streamId(round), uint32(8)),
        ]);
      },
      5000,
    );
    assert.equal(rounds, 5000);
  });
});
