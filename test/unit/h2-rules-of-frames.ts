import { clientPreface } from '../../agent/dataplane/h2/frame-format.js';
import { encodeFrame, encodeHeaders, endHeaders, endStream, frameType } from '../contract/tunnel-raw-peer.js';
import { connectFrame, responseFrame, setting, uint32 } from './h2-engine-fixture.js';
import { data, type Rule } from './h2-rule.js';

const padded = 0x8;
const withPriority = 0x20;
const priority = 2;
const pushPromise = 5;
const unknownType = 0xbb;

const connectBlock = encodeHeaders({ ':method': 'CONNECT', ':authority': '10.0.0.1:80' });

/** What RFC 9113 says in §3 to §6 to whoever receives frames. */
export const rulesOfFrames: readonly Rule[] = [
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
  { rule: '§4.2 a frame of 2^14 octets is taken: DATA', send: data(1, Buffer.alloc(16_384)), expect: 'nothing' },
  {
    rule: '§4.2 a frame of 2^14 octets is taken: HEADERS',
    // Table size updates at the start of a block, one octet each.
    send: encodeFrame(
      frameType.headers,
      endHeaders,
      3,
      Buffer.concat([Buffer.alloc(16_384 - connectBlock.length, 0x20), connectBlock]),
    ),
    expect: 'nothing',
  },
  {
    rule: '§4.2 a frame of 2^14 octets is taken: GOAWAY',
    send: encodeFrame(frameType.goaway, 0, 0, Buffer.alloc(16_384)),
    expect: 'nothing',
  },
  {
    rule: '§4.2 a frame of 2^14 octets is taken: one of an unknown type',
    send: encodeFrame(unknownType, 0, 0, Buffer.alloc(16_384)),
    expect: 'nothing',
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
    rule: '§5.1 half-closed (remote): RST_STREAM is allowed',
    send: [data(1, 'x', endStream), encodeFrame(frameType.rst, 0, 1, uint32(8))],
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
  { rule: '§5.1.1 a client has no even streams: DATA', send: data(2, 'x'), expect: { connection: 'protocolError' } },
  {
    rule: '§5.4.2 a RST_STREAM is not answered with another',
    send: encodeFrame(frameType.rst, 0, 1, uint32(8)),
    expect: 'nothing',
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
  {
    rule: '§5.5 unknown error codes mean nothing special',
    send: [encodeFrame(frameType.rst, 0, 1, uint32(0xdead)), connectFrame(3)],
    expect: 'nothing',
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
  {
    rule: '§6.1 padding may be all there is',
    send: encodeFrame(frameType.data, padded, 1, Buffer.from([2, 0, 0])),
    expect: 'nothing',
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
    rule: '§6.2 padding and priority of HEADERS are no part of the block',
    send: encodeFrame(
      frameType.headers,
      endHeaders | padded | withPriority,
      3,
      Buffer.concat([Buffer.from([2, 0, 0, 0, 0, 9]), connectBlock, Buffer.alloc(2)]),
    ),
    expect: 'nothing',
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
    rule: '§6.3 PRIORITY is allowed on a closed stream',
    send: [encodeFrame(frameType.rst, 0, 1, uint32(8)), encodeFrame(priority, 0, 1, Buffer.alloc(5))],
    expect: 'nothing',
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
    rule: '§6.5 SETTINGS without any setting are allowed',
    send: encodeFrame(frameType.settings, 0, 0),
    expect: 'nothing',
  },
  {
    rule: '§6.5.2 the ends of every range are allowed',
    send: encodeFrame(
      frameType.settings,
      0,
      0,
      Buffer.concat([
        setting(1, 0),
        setting(1, 2 ** 32 - 1),
        setting(2, 0),
        setting(2, 1),
        setting(3, 0),
        setting(3, 2 ** 32 - 1),
        setting(5, 16_384),
        setting(5, 2 ** 24 - 1),
        setting(6, 0),
        setting(6, 2 ** 32 - 1),
        setting(4, 2 ** 31 - 1),
        setting(4, 0),
      ]),
    ),
    expect: 'nothing',
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
    rule: '§6.7 an acknowledgement of a PING has eight octets too',
    send: encodeFrame(frameType.ping, 1, 0, Buffer.alloc(9)),
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
    rule: '§6.9 WINDOW_UPDATE of a stream of which nothing is known',
    send: encodeFrame(frameType.window, 0, 4, uint32(1)),
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§6.9.1 a window may be 2^31-1',
    send: [
      encodeFrame(frameType.window, 0, 0, uint32(2 ** 31 - 1 - 65_535)),
      encodeFrame(frameType.window, 0, 1, uint32(2 ** 31 - 1 - 65_535)),
    ],
    expect: 'nothing',
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
    rule: '§6.10 CONTINUATION belongs to a stream',
    send: encodeFrame(frameType.continuation, endHeaders, 0),
    expect: { connection: 'protocolError' },
  },
  {
    rule: '§6.10 a block may come in many frames, also empty ones',
    send: [
      encodeFrame(frameType.headers, 0, 3),
      ...Array.from(connectBlock.subarray(0, 20), (octet) => {
        return encodeFrame(frameType.continuation, 0, 3, Buffer.from([octet]));
      }),
      encodeFrame(frameType.continuation, 0, 3),
      encodeFrame(frameType.continuation, endHeaders, 3, connectBlock.subarray(20)),
    ],
    expect: 'nothing',
  },
];
