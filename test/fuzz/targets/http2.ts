import assert from 'node:assert/strict';
import { clientPreface } from '../../../agent/dataplane/engine/lean/frame-format.js';
import { judgeRequest, judgeResponse, judgeTrailers } from '../../../agent/dataplane/engine/lean/header-rules.js';
import { ConnectionViolation } from '../../../agent/dataplane/engine/lean/hpack/connection-violation.js';
import { HpackDecoder } from '../../../agent/dataplane/engine/lean/hpack/hpack-decoder.js';
import { HpackEncoder, type HeaderFields } from '../../../agent/dataplane/engine/lean/hpack/hpack-encoder.js';
import { clientHello, connectFrame, EngineProbe, responseFrame, uint32 } from '../../support/http2/engine-fixture.js';
import { RandomChoices } from '../../support/mesh/random-choices.js';
import { encodeFrame, endStream, frameType } from '../../support/tunnel/tunnel-raw-peer.js';
import { withoutValues, type FuzzTarget } from '../target.js';

const frames = [
  encodeFrame(frameType.settings, 0, 0),
  encodeFrame(frameType.settings, 1, 0),
  encodeFrame(frameType.settings, 0, 0, Buffer.from([0, 4, 0, 1, 0, 0, 0, 3, 0, 0, 0, 9])),
  encodeFrame(frameType.data, 0, 1, Buffer.from('hello')),
  encodeFrame(frameType.data, endStream, 1),
  encodeFrame(frameType.data, 8, 3, Buffer.from([2, 65, 0, 0])),
  encodeFrame(frameType.rst, 0, 1, uint32(8)),
  encodeFrame(frameType.ping, 0, 0, Buffer.alloc(8)),
  encodeFrame(frameType.ping, 1, 0, Buffer.from('clvt\0\0\0\x01', 'latin1')),
  encodeFrame(frameType.goaway, 0, 0, Buffer.concat([uint32(1), uint32(0), Buffer.from('bye')])),
  encodeFrame(frameType.window, 0, 0, uint32(1000)),
  encodeFrame(frameType.window, 0, 1, uint32(2 ** 31 - 1)),
  encodeFrame(frameType.continuation, 4, 1),
  connectFrame(3),
  connectFrame(5, 0, { forwarded: 'for="10.0.0.1:1"' }),
  responseFrame(1, '200'),
  responseFrame(1, '503'),
];
const words = frames.map((frame) => frame.toString('latin1'));
const talk = Buffer.concat(frames.slice(3, 12));

/** The most that one connection may owe after what its peer sent. */
const mostOutputBytes = 4_000_000;

export const http2ServerTarget: FuzzTarget = {
  name: 'http2-server',
  reads: 'frames of HTTP/2 that a peer sends to port 15008',
  seeds: () => [
    Buffer.concat([clientHello(), connectFrame(1), talk]),
    Buffer.concat([clientHello(), connectFrame(1), connectFrame(3), encodeFrame(frameType.data, endStream, 1)]),
    clientPreface,
  ],
  words,
  check: (input) => sameHoweverSplit(() => new EngineProbe('server'), input),
};

export const http2ClientTarget: FuzzTarget = {
  name: 'http2-client',
  reads: 'frames of HTTP/2 that the agent of another host answers with',
  seeds: () => [Buffer.concat([frames[0]!, responseFrame(1, '200'), talk]), Buffer.concat([frames[2]!, frames[9]!])],
  words,
  check: (input) =>
    sameHoweverSplit(() => {
      const probe = new EngineProbe('client');
      probe.request();
      return probe;
    }, input),
};

/** What a peer's bytes mean must not depend on how TCP splits them. */
function sameHoweverSplit(newProbe: () => EngineProbe, input: Buffer): string {
  const whole = newProbe();
  whole.engine.receive(Buffer.from(input));
  const split = newProbe();
  const random = new RandomChoices({ seed: input.length });
  for (let at = 0; at < input.length;) {
    const end = at + 1 + Math.floor(random.next() * (random.isLikely(0.7) ? 12 : 4000));
    split.engine.receive(Buffer.from(input.subarray(at, end)));
    at = end;
  }
  const seen = summaryOf(whole);
  assert.deepEqual(summaryOf(split), seen);
  for (const probe of [whole, split]) {
    let bytes = 0;
    for (const piece of probe.engine.pull(1_000_000)) bytes += piece.length;
    assert.ok(bytes < mostOutputBytes, `${bytes} bytes of answers to ${input.length} bytes`);
  }
  const streams = seen.streams.map(({ resetCode, hasEnded }) => `${resetCode}${hasEnded}`).sort();
  return withoutValues(`${seen.failure} ${seen.goaways} ${[...new Set(streams)].join()}`);
}

function summaryOf({ failure, goaways, settings, pongs, streams }: EngineProbe) {
  return {
    failure,
    goaways: goaways.length,
    settings,
    pongs,
    streams: streams.map(({ request, response, received, hasEnded, resetCode }) => ({
      request: { ...request },
      response: { ...response },
      received: Buffer.concat(received).toString('latin1'),
      hasEnded,
      resetCode,
    })),
  };
}

const fieldSets: readonly HeaderFields[] = [
  [
    [':method', 'CONNECT'],
    [':authority', '10.0.0.1:80'],
    ['forwarded', 'for="10.0.0.2:1234"'],
  ],
  [
    [':status', '200'],
    ['server', 'culvert'],
  ],
  [['x', 'y'.repeat(200)]],
];

export const hpackTarget: FuzzTarget = {
  name: 'hpack',
  reads: 'header blocks of a peer, one after another (RFC 7541)',
  seeds: () => {
    const encoder = new HpackEncoder();
    return fieldSets.map((fields) => Buffer.from(encoder.encode(fields)));
  },
  words: ['\x3f\xe1\x1f', '\x20', '\x82', '\xbe', '\x40\x01a\x01b', '\x7f\xff\xff\xff\x7f', '\x00\x82\xff\xff'],
  check: (input) => {
    const limits = { maxTableBytes: 4096, maxListBytes: 4096, maxFields: 16 };
    const decoder = new HpackDecoder(limits);
    const outcomes: string[] = [];
    // Two blocks, because the second one meets a table that the first one filled.
    for (const block of [input, input.subarray(input.length >> 1)]) {
      try {
        const { fields, isTooLarge } = decoder.decode(Buffer.from(block));
        assert.ok(fields.length <= 2 * limits.maxFields, `${fields.length} names and values`);
        assert.ok(decoder.tableBytes <= limits.maxTableBytes, `a table of ${decoder.tableBytes} bytes`);
        const judged = [judgeRequest(fields), judgeResponse(fields), judgeTrailers(fields)];
        outcomes.push(`${isTooLarge}`, ...judged.map((each) => (each.isMalformed ? each.detail : 'right')));
      } catch (error) {
        if (!(error instanceof ConnectionViolation)) throw error;
        outcomes.push(error.message);
        break;
      }
    }
    return withoutValues(outcomes.join(' '));
  },
};
