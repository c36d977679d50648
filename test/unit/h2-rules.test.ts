import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { errorCode } from '../../agent/dataplane/h2/error-code.js';
import { clientPreface } from '../../agent/dataplane/h2/frame-format.js';
import { encodeFrame, encodeHeaders, endHeaders, endStream, frameType } from '../contract/tunnel-raw-peer.js';
import {
  clientHello,
  connectFrame,
  EngineProbe,
  responseFrame,
  setting,
  startedClient,
  startedServer,
  uint32,
} from './h2-engine-fixture.js';

const padded = 0x8;
const withPriority = 0x20;
const priority = 2;
const pushPromise = 5;
const unknownType = 0xbb;

type Rule = {
  /** Section of RFC 9113, and the rule. */
  readonly rule: string;
  readonly send: Buffer | readonly Buffer[];
  /** A server with stream 1 open, unless told otherwise. */
  readonly to?: 'client' | 'client before the answer' | 'fresh server' | 'fresh client';
  readonly expect:
    { readonly connection: keyof typeof errorCode } | { readonly stream: keyof typeof errorCode } | 'nothing';
  /** The stream that is reset; 1 unless told otherwise. */
  readonly streamId?: number;
};

function probeFor(rule: Rule): EngineProbe {
  switch (rule.to) {
    case 'client':
      return startedClient();
    case 'client before the answer':
      return startedClient({}, false);
    case 'fresh server':
      return new EngineProbe('server');
    case 'fresh client':
      return new EngineProbe('client');
    default:
      return startedServer();
  }
}

function data(stream: number, payload: Buffer | string = '', flags = 0): Buffer {
  return encodeFrame(frameType.data, flags, stream, Buffer.from(payload));
}

function headers(stream: number, fields: Readonly<Record<string, string>>, flags = endHeaders): Buffer {
  return encodeFrame(frameType.headers, flags, stream, encodeHeaders(fields));
}

/** HEADERS of a request that lacks nothing, with more or other fields. */
function request(stream: number, fields: readonly (readonly [string, string])[]): Buffer {
  const block = Buffer.concat(fields.map(([name, value]) => encodeHeaders({ [name]: value })));
  return encodeFrame(frameType.headers, endHeaders, stream, block);
}

const connect: readonly (readonly [string, string])[] = [
  [':method', 'CONNECT'],
  [':authority', '10.0.0.1:80'],
];
const malformed = { expect: { stream: 'protocolError' }, streamId: 3 } as const;
const get = { ':method': 'GET', ':scheme': 'https', ':path': '/' };

const rules: readonly Rule[] = [
  {
    rule: '§3.4 the client begins with the preface',
    to: 'fresh server',
    send: Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§3.4 the first frame of a client is SETTINGS',
    to: 'fresh server',
    send: [clientPreface, connectFrame(1)],
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§3.4 the first frame of a server is SETTINGS',
    to: 'fresh client',
    send: encodeFrame(frameType.ping, 0, 0, Buffer.alloc(8)),
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§3.4 the first SETTINGS is no acknowledgement',
    to: 'fresh client',
    send: encodeFrame(frameType.settings, 1, 0),
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§4.1 the reserved bit of a stream identifier is ignored',
    send: connectFrame(0x8000_0003),
    expect: 'nothing',
  },
  { rule: '§4.1 flags without a meaning are ignored', send: data(1, 'x', 0xf6), expect: 'nothing' },
  {
    rule: '§4.2 no frame is longer than SETTINGS_MAX_FRAME_SIZE',
    send: encodeFrame(frameType.data, 0, 1, Buffer.alloc(65_537)),
    expect: { connection: 'frameSizeError' },
  },
  {
    rule: '§4.3 a block that cannot be decoded ends the connection',
    send: encodeFrame(frameType.headers, endHeaders, 3, Buffer.from([0x80])),
    expect: { connection: 'compressionError' },
  },
  {
    rule: '§4.3 no frame of another stream comes within a header block',
    send: [connectFrame(3, 0), data(1, 'x')],
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§4.3 no CONTINUATION of another stream comes within a header block',
    send: [connectFrame(3, 0), encodeFrame(frameType.continuation, 0, 1)],
    expect: { connection: 'protocolError' },
  },
  { rule: '§5.1 idle: DATA', send: data(3, 'x'), expect: { connection: 'protocolError' } },
  {
    rule: '§5.1 idle: RST_STREAM',
    send: encodeFrame(frameType.rst, 0, 3, uint32(8)),
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§5.1 idle: WINDOW_UPDATE',
    send: encodeFrame(frameType.window, 0, 3, uint32(8)),
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§5.1 idle: CONTINUATION',
    send: encodeFrame(frameType.continuation, endHeaders, 3),
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§5.1 idle: HEADERS at a client',
    to: 'client',
    send: responseFrame(3, '200'),
    expect: { connection: 'protocolError' },
  },
  { rule: '§5.1 idle: PRIORITY is allowed', send: encodeFrame(priority, 0, 3, Buffer.alloc(5)), expect: 'nothing' },
  {
    rule: '§5.1 half-closed (remote): DATA',
    send: [data(1, 'x', endStream), data(1, 'y')],
    expect: { stream: 'streamClosed' },
  },
  {
    rule: '§5.1 half-closed (remote): HEADERS',
    send: [data(1, 'x', endStream), connectFrame(1)],
    expect: { stream: 'streamClosed' },
  },
  {
    rule: '§5.1 half-closed (remote): WINDOW_UPDATE, PRIORITY are allowed',
    send: [
      data(1, 'x', endStream),
      encodeFrame(frameType.window, 0, 1, uint32(8)),
      encodeFrame(priority, 0, 1, Buffer.alloc(5)),
    ],
    expect: 'nothing',
  },
  {
    rule: '§5.1 closed: DATA that was on its way is dropped',
    send: [encodeFrame(frameType.rst, 0, 1, uint32(8)), data(1, 'x')],
    expect: 'nothing',
  },
  {
    rule: '§5.1 closed: WINDOW_UPDATE and RST_STREAM are ignored',
    send: [
      encodeFrame(frameType.rst, 0, 1, uint32(8)),
      encodeFrame(frameType.window, 0, 1, uint32(8)),
      encodeFrame(frameType.rst, 0, 1, uint32(8)),
    ],
    expect: 'nothing',
  },
  { rule: '§5.1.1 a client opens odd streams', send: connectFrame(2), expect: { connection: 'protocolError' } },
  {
    rule: '§5.1.1 numbers of streams grow',
    send: [connectFrame(7), connectFrame(5)],
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§5.1.1 numbers of streams are not used again',
    send: [encodeFrame(frameType.rst, 0, 1, uint32(8)), connectFrame(1)],
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§5.1.1 a server opens no streams',
    to: 'client',
    send: responseFrame(2, '200'),
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§5.1.2 no more streams than SETTINGS_MAX_CONCURRENT_STREAMS',
    send: [3, 5, 7, 9, 11, 13, 15, 17, 19, 21].map((id) => connectFrame(id)),
    expect: { stream: 'refusedStream' },
    streamId: 21,
  },
  {
    rule: '§5.5 unknown frames are ignored',
    send: [encodeFrame(unknownType, 0xff, 1, Buffer.alloc(100)), encodeFrame(unknownType, 0, 0)],
    expect: 'nothing',
  },
  {
    rule: '§5.5 unknown frames within a header block are not',
    send: [connectFrame(3, 0), encodeFrame(unknownType, 0, 3)],
    expect: { connection: 'protocolError' },
  },
  { rule: '§6.1 DATA belongs to a stream', send: data(0, 'x'), expect: { connection: 'protocolError' } },
  {
    rule: '§6.1 padding is shorter than its frame',
    send: encodeFrame(frameType.data, padded, 1, Buffer.from([3, 1, 1])),
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§6.1 padded DATA has a pad length',
    send: encodeFrame(frameType.data, padded, 1),
    expect: { connection: 'frameSizeError' },
  },
  { rule: '§6.2 HEADERS belong to a stream', send: connectFrame(0), expect: { connection: 'protocolError' } },
  {
    rule: '§6.2 padding of HEADERS fits into the frame',
    send: encodeFrame(frameType.headers, endHeaders | padded, 3, Buffer.from([9, 0x82])),
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§6.2 HEADERS with priority are long enough',
    send: encodeFrame(frameType.headers, endHeaders | withPriority, 3, Buffer.alloc(3)),
    expect: { connection: 'frameSizeError' },
  },
  {
    rule: '§6.3 PRIORITY belongs to a stream',
    send: encodeFrame(priority, 0, 0, Buffer.alloc(5)),
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§6.3 PRIORITY has five octets',
    send: encodeFrame(priority, 0, 1, Buffer.alloc(4)),
    expect: { stream: 'frameSizeError' },
  },
  {
    rule: '§6.4 RST_STREAM belongs to a stream',
    send: encodeFrame(frameType.rst, 0, 0, uint32(8)),
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§6.4 RST_STREAM has four octets',
    send: encodeFrame(frameType.rst, 0, 1, Buffer.alloc(5)),
    expect: { connection: 'frameSizeError' },
  },
  {
    rule: '§6.5 SETTINGS belong to the connection',
    send: encodeFrame(frameType.settings, 0, 1),
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§6.5 an acknowledgement is empty',
    send: encodeFrame(frameType.settings, 1, 0, setting(3, 1)),
    expect: { connection: 'frameSizeError' },
  },
  {
    rule: '§6.5 SETTINGS have six octets each',
    send: encodeFrame(frameType.settings, 0, 0, Buffer.alloc(5)),
    expect: { connection: 'frameSizeError' },
  },
  {
    rule: '§6.5.2 ENABLE_PUSH is 0 or 1',
    send: encodeFrame(frameType.settings, 0, 0, setting(2, 2)),
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§6.5.2 a server does not send ENABLE_PUSH 1',
    to: 'client',
    send: encodeFrame(frameType.settings, 0, 0, setting(2, 1)),
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§6.5.2 INITIAL_WINDOW_SIZE is at most 2^31-1',
    send: encodeFrame(frameType.settings, 0, 0, setting(4, 2 ** 31)),
    expect: { connection: 'flowControlError' },
  },
  {
    rule: '§6.5.2 MAX_FRAME_SIZE is at least 2^14',
    send: encodeFrame(frameType.settings, 0, 0, setting(5, 16_383)),
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§6.5.2 MAX_FRAME_SIZE is at most 2^24-1',
    send: encodeFrame(frameType.settings, 0, 0, setting(5, 2 ** 24)),
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§6.5.2 unknown settings are ignored',
    send: encodeFrame(frameType.settings, 0, 0, setting(99, 7)),
    expect: 'nothing',
  },
  {
    rule: '§6.6 a client does not push',
    send: encodeFrame(pushPromise, endHeaders, 1, Buffer.alloc(4)),
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§6.6 nor may a server after ENABLE_PUSH 0',
    to: 'client',
    send: encodeFrame(pushPromise, endHeaders, 1, uint32(2)),
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§6.7 PING belongs to the connection',
    send: encodeFrame(frameType.ping, 0, 1, Buffer.alloc(8)),
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§6.7 PING has eight octets',
    send: encodeFrame(frameType.ping, 0, 0, Buffer.alloc(7)),
    expect: { connection: 'frameSizeError' },
  },
  {
    rule: '§6.8 GOAWAY belongs to the connection',
    send: encodeFrame(frameType.goaway, 0, 1, Buffer.alloc(8)),
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§6.8 GOAWAY has eight octets or more',
    send: encodeFrame(frameType.goaway, 0, 0, Buffer.alloc(7)),
    expect: { connection: 'frameSizeError' },
  },
  {
    rule: '§6.9 an increment of 0 on a stream',
    send: encodeFrame(frameType.window, 0, 1, uint32(0)),
    expect: { stream: 'protocolError' },
  },
  {
    rule: '§6.9 an increment of 0 on the connection',
    send: encodeFrame(frameType.window, 0, 0, uint32(0)),
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§6.9 WINDOW_UPDATE has four octets',
    send: encodeFrame(frameType.window, 0, 1, Buffer.alloc(3)),
    expect: { connection: 'frameSizeError' },
  },
  {
    rule: '§6.9.1 a window of a stream beyond 2^31-1',
    send: encodeFrame(frameType.window, 0, 1, uint32(2 ** 31 - 1)),
    expect: { stream: 'flowControlError' },
  },
  {
    rule: '§6.9.1 a window of the connection beyond 2^31-1',
    send: encodeFrame(frameType.window, 0, 0, uint32(2 ** 31 - 1)),
    expect: { connection: 'flowControlError' },
  },
  {
    rule: '§6.9.2 INITIAL_WINDOW_SIZE that takes a window beyond 2^31-1',
    send: [
      encodeFrame(frameType.window, 0, 1, uint32(1_000_000)),
      encodeFrame(frameType.settings, 0, 0, setting(4, 2 ** 31 - 1)),
    ],
    expect: { connection: 'flowControlError' },
  },
  {
    rule: '§6.10 CONTINUATION follows HEADERS without END_HEADERS',
    send: [connectFrame(3), encodeFrame(frameType.continuation, endHeaders, 3)],
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§8.1 DATA does not come before the answer',
    to: 'client before the answer',
    send: data(1, 'x'),
    expect: { stream: 'protocolError' },
  },
  {
    rule: '§8.1 interim answers come before the answer',
    to: 'client before the answer',
    send: [responseFrame(1, '103'), responseFrame(1, '200')],
    expect: 'nothing',
  },
  {
    rule: '§8.1 an interim answer does not end the stream',
    to: 'client before the answer',
    send: responseFrame(1, '103', endHeaders | endStream),
    expect: { stream: 'protocolError' },
  },
  {
    rule: '§8.1 trailers end the stream',
    to: 'client before the answer',
    send: [responseFrame(1, '503'), headers(1, { x: 'y' })],
    expect: { stream: 'protocolError' },
  },
  {
    rule: '§8.1 trailers of an answer that refuses are allowed',
    to: 'client before the answer',
    send: [responseFrame(1, '503'), headers(1, { x: 'y' }, endHeaders | endStream)],
    expect: 'nothing',
  },
  {
    rule: '§8.1 trailers have no pseudo fields',
    to: 'client before the answer',
    send: [responseFrame(1, '503'), responseFrame(1, '200', endHeaders | endStream)],
    expect: { stream: 'protocolError' },
  },
  { rule: '§8.2.1 upper case in a name', send: request(3, [...connect, ['X-a', 'y']]), ...malformed },
  { rule: '§8.2.1 a blank in a name', send: request(3, [...connect, ['x a', 'y']]), ...malformed },
  { rule: '§8.2.1 an octet beyond ASCII in a name', send: request(3, [...connect, ['x\u007f', 'y']]), ...malformed },
  { rule: '§8.2.1 a colon within a name', send: request(3, [...connect, ['x:y', 'y']]), ...malformed },
  { rule: '§8.2.1 an empty name', send: request(3, [...connect, ['', 'y']]), ...malformed },
  { rule: '§8.2.1 LF in a value', send: request(3, [...connect, ['x', 'a\nb']]), ...malformed },
  { rule: '§8.2.1 CR in a value', send: request(3, [...connect, ['x', 'a\rb']]), ...malformed },
  { rule: '§8.2.1 NUL in a value', send: request(3, [...connect, ['x', 'a\0b']]), ...malformed },
  { rule: '§8.2.1 white space at the start of a value', send: request(3, [...connect, ['x', ' a']]), ...malformed },
  { rule: '§8.2.1 white space at the end of a value', send: request(3, [...connect, ['x', 'a\t']]), ...malformed },
  { rule: '§8.2.1 an empty value is allowed', send: request(3, [...connect, ['x', '']]), expect: 'nothing' },
  { rule: '§8.2.2 connection', send: request(3, [...connect, ['connection', 'close']]), ...malformed },
  { rule: '§8.2.2 proxy-connection', send: request(3, [...connect, ['proxy-connection', 'close']]), ...malformed },
  { rule: '§8.2.2 keep-alive', send: request(3, [...connect, ['keep-alive', '5']]), ...malformed },
  { rule: '§8.2.2 transfer-encoding', send: request(3, [...connect, ['transfer-encoding', 'chunked']]), ...malformed },
  { rule: '§8.2.2 upgrade', send: request(3, [...connect, ['upgrade', 'x']]), ...malformed },
  { rule: '§8.2.2 te but for trailers', send: request(3, [...connect, ['te', 'gzip']]), ...malformed },
  { rule: '§8.2.2 te: trailers is allowed', send: request(3, [...connect, ['te', 'trailers']]), expect: 'nothing' },
  { rule: '§8.3 an unknown pseudo field', send: request(3, [...connect, [':x', 'y']]), ...malformed },
  { rule: '§8.3 :status in a request', send: request(3, [...connect, [':status', '200']]), ...malformed },
  {
    rule: '§8.3 :method in a response',
    to: 'client before the answer',
    send: headers(1, { ':status': '200', ':method': 'GET' }),
    expect: { stream: 'protocolError' },
  },
  {
    rule: '§8.3 a pseudo field after a field',
    send: request(3, [
      [':method', 'CONNECT'],
      ['x', 'y'],
      [':authority', 'a:1'],
    ]),
    ...malformed,
  },
  { rule: '§8.3 a pseudo field twice', send: request(3, [...connect, [':method', 'CONNECT']]), ...malformed },
  { rule: '§8.3.1 a request without :method', send: request(3, [[':authority', 'a:1']]), ...malformed },
  { rule: '§8.3.1 a request without :scheme', send: headers(3, { ':method': 'GET', ':path': '/' }), ...malformed },
  { rule: '§8.3.1 a request with an empty :path', send: headers(3, { ...get, ':path': '' }), ...malformed },
  { rule: '§8.3.1 another method than CONNECT is for the caller to judge', send: headers(3, get), expect: 'nothing' },
  {
    rule: '§8.3.2 a response without :status',
    to: 'client before the answer',
    send: headers(1, { x: 'y' }),
    expect: { stream: 'protocolError' },
  },
  {
    rule: '§8.3.2 a :status that is no number',
    to: 'client before the answer',
    send: responseFrame(1, '20x'),
    expect: { stream: 'protocolError' },
  },
  { rule: '§8.5 a CONNECT without :authority', send: request(3, [[':method', 'CONNECT']]), ...malformed },
  { rule: '§8.5 a CONNECT with :path', send: request(3, [...connect, [':path', '/']]), ...malformed },
  { rule: '§8.5 a CONNECT with :scheme', send: request(3, [...connect, [':scheme', 'https']]), ...malformed },
  {
    rule: '§8.5 HEADERS of the client within a tunnel',
    send: headers(1, { x: 'y' }, endHeaders | endStream),
    expect: { stream: 'protocolError' },
  },
  {
    rule: '§8.5 HEADERS of the server within a tunnel',
    to: 'client',
    send: headers(1, { x: 'y' }, endHeaders | endStream),
    expect: { stream: 'protocolError' },
  },
  {
    rule: '§8.6 status 101',
    to: 'client before the answer',
    send: responseFrame(1, '101'),
    expect: { stream: 'protocolError' },
  },
  {
    rule: '§10.5.1 a header list beyond SETTINGS_MAX_HEADER_LIST_SIZE',
    send: request(3, [
      ...connect,
      ...Array.from({ length: 15 }, (_unused, at) => ['x', String(at).padEnd(120, 'y')] as const),
      ...Array.from({ length: 15 }, () => ['x', 'y'] as const),
    ]),
    expect: { stream: 'enhanceYourCalm' },
    streamId: 3,
  },
];

describe('the engine answers a breach of RFC 9113 with the right code and scope, and nothing else with an error', () => {
  for (const rule of rules) {
    it(rule.rule, () => {
      const probe = probeFor(rule);
      probe.frames();
      probe.engine.receive(Buffer.concat([rule.send].flat()));
      const frames = probe.frames();
      const resets = frames.filter(({ type }) => type === frameType.rst);
      const connectionCode = probe.sentCode(frameType.goaway, frames);
      if (rule.expect === 'nothing') {
        assert.deepEqual([resets.length, connectionCode, probe.failure], [0, null, null]);
        return;
      }
      if ('connection' in rule.expect) {
        assert.equal(connectionCode, errorCode[rule.expect.connection], probe.failure ?? 'no failure');
        assert.notEqual(probe.failure, null);
        assert.equal(probe.engine.streamCount, 0);
        return;
      }
      assert.equal(connectionCode, null);
      assert.deepEqual(
        resets.map(({ stream, payload }) => [stream, payload.readUInt32BE()]),
        [[rule.streamId ?? 1, errorCode[rule.expect.stream]]],
      );
    });
  }

  it('§5.1 HEADERS that cross our own reset are decoded and dropped', () => {
    const probe = startedServer();
    probe.engine.reset(probe.streams[0]!.stream, errorCode.connectError);
    const indexed = Buffer.from([0x40, 1, 0x78, 1, 0x79]);
    probe.engine.receive(encodeFrame(frameType.headers, endHeaders | endStream, 1, indexed));
    const again = Buffer.concat([encodeHeaders({ ':method': 'CONNECT', ':authority': 'a:1' }), Buffer.from([0xbe])]);
    probe.engine.receive(encodeFrame(frameType.headers, endHeaders, 3, again));
    assert.equal(probe.failure, null);
    assert.equal(probe.streams[1]?.request?.['x'], 'y');
  });

  it('§6.4 a reset of the peer is told with its code', () => {
    const probe = startedServer();
    probe.engine.receive(encodeFrame(frameType.rst, 0, 1, uint32(errorCode.connectError)));
    assert.equal(probe.streams[0]?.resetCode, errorCode.connectError);
    assert.equal(probe.engine.streamCount, 0);
  });

  it('§6.5.3 SETTINGS are acknowledged in their order, acknowledgements are not', () => {
    const probe = new EngineProbe('server');
    probe.engine.receive(clientHello());
    probe.engine.receive(encodeFrame(frameType.settings, 1, 0));
    const settings = probe.frames().filter(({ type }) => type === frameType.settings);
    assert.deepEqual(
      settings.map(({ flags, payload }) => [flags, payload.length > 0]),
      [
        [0, true],
        [1, false],
      ],
    );
  });

  it('§6.7 a PING is answered with its own octets', () => {
    const probe = startedServer();
    probe.engine.receive(encodeFrame(frameType.ping, 0, 0, Buffer.from('12345678')));
    const [pong] = probe.frames();
    assert.deepEqual([pong?.type, pong?.flags, pong?.payload.toString()], [frameType.ping, 1, '12345678']);
    probe.engine.ping();
    const [ping] = probe.frames();
    assert.equal(ping?.flags, 0);
    probe.engine.receive(encodeFrame(frameType.ping, 1, 0, ping.payload));
    assert.equal(probe.pongs, 1);
  });

  it('§6.8 a GOAWAY refuses the streams above the last one, and there are no new ones', () => {
    const probe = startedClient();
    probe.request();
    probe.engine.receive(
      encodeFrame(frameType.goaway, 0, 0, Buffer.concat([uint32(1), uint32(0), Buffer.from('bye')])),
    );
    assert.equal(probe.streams[0]?.resetCode, null);
    assert.equal(probe.streams[1]?.resetCode, errorCode.refusedStream);
    assert.equal(probe.goaways[0]?.debugData.toString(), 'bye');
    assert.throws(() => probe.request(), /no stream/);
  });

  it('§6.8 after our GOAWAY, newer streams are dropped and older ones live on', () => {
    const probe = startedServer();
    probe.engine.goAway();
    const [goaway] = probe.frames();
    assert.equal(goaway?.payload.readUInt32BE(), 1);
    probe.engine.receive(Buffer.concat([connectFrame(3), data(3, 'x'), data(1, 'y')]));
    assert.equal(probe.streams.length, 1);
    assert.equal(Buffer.concat(probe.streams[0]!.received).toString(), 'y');
    assert.deepEqual(probe.frames(), []);
  });
});
