import { clientPreface } from '../../../agent/dataplane/engine/lean/frame-format.js';
import { encodeFrame, encodeHeaders, endHeaders, endStream, frameType } from '../tunnel/tunnel-raw-peer.js';
import { connectFrame, responseFrame, setting, uint32 } from './engine-fixture.js';
import { data, rulesWith, type Rule } from './rule.js';

const padded = 0x8;
const withPriority = 0x20;
const priority = 2;
const pushPromise = 5;
const unknownType = 0xbb;

const connectBlock = encodeHeaders({ ':method': 'CONNECT', ':authority': '10.0.0.1:80' });

function reset(stream: number, code = 8): Buffer {
  return encodeFrame(frameType.rst, 0, stream, uint32(code));
}

function windowUpdate(stream: number, bytes: number): Buffer {
  return encodeFrame(frameType.window, 0, stream, uint32(bytes));
}

function settings(...values: readonly Buffer[]): Buffer {
  return encodeFrame(frameType.settings, 0, 0, Buffer.concat(values));
}

/** Rules of RFC 9113, §3 to §6, for the receiver of frames. */
export const rulesOfFrames: readonly Rule[] = [
  ...rulesWith({ to: 'fresh server', expect: { connection: 'protocolError' } }, [
    ['§3.4 the client begins with the preface', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['§3.4 the first frame of a client is SETTINGS', clientPreface, connectFrame(1)],
  ]),
  ...rulesWith({ to: 'fresh client', expect: { connection: 'protocolError' } }, [
    ['§3.4 the first frame of a server is SETTINGS', encodeFrame(frameType.ping, 0, 0, Buffer.alloc(8))],
    ['§3.4 the first SETTINGS is no acknowledgement', encodeFrame(frameType.settings, 1, 0)],
  ]),
  ...rulesWith({ expect: 'nothing' }, [
    ['§4.1 the reserved bit of a stream identifier is ignored', connectFrame(0x8000_0003)],
    ['§4.1 flags without a meaning are ignored', data(1, 'x', 0xf6)],
    ['§4.2 a frame of 2^14 octets is taken: DATA', data(1, Buffer.alloc(16_384))],
    [
      // Table size updates at the start of a block, one octet each.
      '§4.2 a frame of 2^14 octets is taken: HEADERS',
      encodeFrame(
        frameType.headers,
        endHeaders,
        3,
        Buffer.concat([Buffer.alloc(16_384 - connectBlock.length, 0x20), connectBlock]),
      ),
    ],
    ['§4.2 a frame of 2^14 octets is taken: GOAWAY', encodeFrame(frameType.goaway, 0, 0, Buffer.alloc(16_384))],
    [
      '§4.2 a frame of 2^14 octets is taken: one of an unknown type',
      encodeFrame(unknownType, 0, 0, Buffer.alloc(16_384)),
    ],
  ]),
  ...rulesWith({ expect: { connection: 'frameSizeError' } }, [
    ['§4.2 no frame is longer than SETTINGS_MAX_FRAME_SIZE', encodeFrame(frameType.data, 0, 1, Buffer.alloc(65_537))],
  ]),
  ...rulesWith({ expect: { connection: 'compressionError' } }, [
    [
      '§4.3 a block that cannot be decoded ends the connection',
      encodeFrame(frameType.headers, endHeaders, 3, Buffer.from([0x80])),
    ],
  ]),
  ...rulesWith({ expect: { connection: 'protocolError' } }, [
    ['§4.3 no frame of another stream comes within a header block', connectFrame(3, 0), data(1, 'x')],
    [
      '§4.3 no CONTINUATION of another stream comes within a header block',
      connectFrame(3, 0),
      encodeFrame(frameType.continuation, 0, 1),
    ],
  ]),
  ...rulesWith({ expect: { connection: 'protocolError' } }, [
    ['§5.1 idle: DATA', data(3, 'x')],
    ['§5.1 idle: RST_STREAM', reset(3)],
    ['§5.1 idle: WINDOW_UPDATE', windowUpdate(3, 8)],
    ['§5.1 idle: CONTINUATION', encodeFrame(frameType.continuation, endHeaders, 3)],
    ['§5.1.1 a client opens odd streams', connectFrame(2)],
    ['§5.1.1 numbers of streams grow', connectFrame(7), connectFrame(5)],
    ['§5.1.1 numbers of streams are not used again', reset(1), connectFrame(1)],
    ['§5.1.1 a client has no even streams: DATA', data(2, 'x')],
    ['§5.5 unknown frames within a header block are not', connectFrame(3, 0), encodeFrame(unknownType, 0, 3)],
  ]),
  ...rulesWith({ to: 'client', expect: { connection: 'protocolError' } }, [
    ['§5.1 idle: HEADERS at a client', responseFrame(3, '200')],
    ['§5.1.1 a server opens no streams', responseFrame(2, '200')],
  ]),
  ...rulesWith({ expect: 'nothing' }, [
    ['§5.1 idle: PRIORITY is allowed', encodeFrame(priority, 0, 3, Buffer.alloc(5))],
    [
      '§5.1 half-closed (remote): WINDOW_UPDATE, PRIORITY are allowed',
      data(1, 'x', endStream),
      windowUpdate(1, 8),
      encodeFrame(priority, 0, 1, Buffer.alloc(5)),
    ],
    ['§5.1 half-closed (remote): RST_STREAM is allowed', data(1, 'x', endStream), reset(1)],
    ['§5.1 closed: DATA that was on its way is dropped', reset(1), data(1, 'x')],
    ['§5.1 closed: WINDOW_UPDATE and RST_STREAM are ignored', reset(1), windowUpdate(1, 8), reset(1)],
    ['§5.4.2 a RST_STREAM is not answered with another', reset(1)],
    [
      '§5.5 unknown frames are ignored',
      encodeFrame(unknownType, 0xff, 1, Buffer.alloc(100)),
      encodeFrame(unknownType, 0, 0),
    ],
    ['§5.5 unknown error codes mean nothing special', reset(1, 0xdead), connectFrame(3)],
  ]),
  ...rulesWith({ expect: { stream: 'streamClosed' } }, [
    ['§5.1 half-closed (remote): DATA', data(1, 'x', endStream), data(1, 'y')],
    ['§5.1 half-closed (remote): HEADERS', data(1, 'x', endStream), connectFrame(1)],
  ]),
  ...rulesWith({ expect: { stream: 'refusedStream' }, streamId: 21 }, [
    [
      '§5.1.2 no more streams than SETTINGS_MAX_CONCURRENT_STREAMS',
      ...[3, 5, 7, 9, 11, 13, 15, 17, 19, 21].map((id) => connectFrame(id)),
    ],
  ]),
  ...rulesWith({ expect: { connection: 'protocolError' } }, [
    ['§6.1 DATA belongs to a stream', data(0, 'x')],
    ['§6.1 padding is shorter than its frame', encodeFrame(frameType.data, padded, 1, Buffer.from([3, 1, 1]))],
    ['§6.2 HEADERS belong to a stream', connectFrame(0)],
    [
      '§6.2 padding of HEADERS fits into the frame',
      encodeFrame(frameType.headers, endHeaders | padded, 3, Buffer.from([9, 0x82])),
    ],
    ['§6.3 PRIORITY belongs to a stream', encodeFrame(priority, 0, 0, Buffer.alloc(5))],
    ['§6.4 RST_STREAM belongs to a stream', reset(0)],
    ['§6.5 SETTINGS belong to the connection', encodeFrame(frameType.settings, 0, 1)],
    ['§6.5.2 ENABLE_PUSH is 0 or 1', settings(setting(2, 2))],
    ['§6.5.2 MAX_FRAME_SIZE is at least 2^14', settings(setting(5, 16_383))],
    ['§6.5.2 MAX_FRAME_SIZE is at most 2^24-1', settings(setting(5, 2 ** 24))],
    ['§6.6 a client does not push', encodeFrame(pushPromise, endHeaders, 1, Buffer.alloc(4))],
    ['§6.7 PING belongs to the connection', encodeFrame(frameType.ping, 0, 1, Buffer.alloc(8))],
    ['§6.8 GOAWAY belongs to the connection', encodeFrame(frameType.goaway, 0, 1, Buffer.alloc(8))],
    ['§6.9 an increment of 0 on the connection', windowUpdate(0, 0)],
    ['§6.9 WINDOW_UPDATE of a stream of which nothing is known', windowUpdate(4, 1)],
    [
      '§6.10 CONTINUATION follows HEADERS without END_HEADERS',
      connectFrame(3),
      encodeFrame(frameType.continuation, endHeaders, 3),
    ],
    ['§6.10 CONTINUATION belongs to a stream', encodeFrame(frameType.continuation, endHeaders, 0)],
  ]),
  ...rulesWith({ expect: { connection: 'frameSizeError' } }, [
    ['§6.1 padded DATA has a pad length', encodeFrame(frameType.data, padded, 1)],
    [
      '§6.2 HEADERS with priority are long enough',
      encodeFrame(frameType.headers, endHeaders | withPriority, 3, Buffer.alloc(3)),
    ],
    ['§6.4 RST_STREAM has four octets', encodeFrame(frameType.rst, 0, 1, Buffer.alloc(5))],
    ['§6.5 an acknowledgement is empty', encodeFrame(frameType.settings, 1, 0, setting(3, 1))],
    ['§6.5 SETTINGS have six octets each', encodeFrame(frameType.settings, 0, 0, Buffer.alloc(5))],
    ['§6.7 PING has eight octets', encodeFrame(frameType.ping, 0, 0, Buffer.alloc(7))],
    ['§6.7 an acknowledgement of a PING has eight octets too', encodeFrame(frameType.ping, 1, 0, Buffer.alloc(9))],
    ['§6.8 GOAWAY has eight octets or more', encodeFrame(frameType.goaway, 0, 0, Buffer.alloc(7))],
    ['§6.9 WINDOW_UPDATE has four octets', encodeFrame(frameType.window, 0, 1, Buffer.alloc(3))],
  ]),
  ...rulesWith({ expect: 'nothing' }, [
    ['§6.1 padding may be all there is', encodeFrame(frameType.data, padded, 1, Buffer.from([2, 0, 0]))],
    [
      '§6.2 padding and priority of HEADERS are no part of the block',
      encodeFrame(
        frameType.headers,
        endHeaders | padded | withPriority,
        3,
        Buffer.concat([Buffer.from([2, 0, 0, 0, 0, 9]), connectBlock, Buffer.alloc(2)]),
      ),
    ],
    ['§6.3 PRIORITY is allowed on a closed stream', reset(1), encodeFrame(priority, 0, 1, Buffer.alloc(5))],
    ['§6.5 SETTINGS without any setting are allowed', settings()],
    [
      '§6.5.2 the ends of every range are allowed',
      settings(
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
      ),
    ],
    ['§6.5.2 unknown settings are ignored', settings(setting(99, 7))],
    ['§6.9.1 a window may be 2^31-1', windowUpdate(0, 2 ** 31 - 1 - 65_535), windowUpdate(1, 2 ** 31 - 1 - 65_535)],
    [
      '§6.10 a block may come in many frames, also empty ones',
      encodeFrame(frameType.headers, 0, 3),
      ...Array.from(connectBlock.subarray(0, 20), (octet) => {
        return encodeFrame(frameType.continuation, 0, 3, Buffer.from([octet]));
      }),
      encodeFrame(frameType.continuation, 0, 3),
      encodeFrame(frameType.continuation, endHeaders, 3, connectBlock.subarray(20)),
    ],
  ]),
  ...rulesWith({ expect: { stream: 'frameSizeError' } }, [
    ['§6.3 PRIORITY has five octets', encodeFrame(priority, 0, 1, Buffer.alloc(4))],
  ]),
  ...rulesWith({ to: 'client', expect: { connection: 'protocolError' } }, [
    ['§6.5.2 a server does not send ENABLE_PUSH 1', settings(setting(2, 1))],
    ['§6.6 a server does not push after ENABLE_PUSH 0', encodeFrame(pushPromise, endHeaders, 1, uint32(2))],
  ]),
  ...rulesWith({ expect: { connection: 'flowControlError' } }, [
    ['§6.5.2 INITIAL_WINDOW_SIZE is at most 2^31-1', settings(setting(4, 2 ** 31))],
    ['§6.9.1 a window of the connection beyond 2^31-1', windowUpdate(0, 2 ** 31 - 1)],
    [
      '§6.9.2 INITIAL_WINDOW_SIZE that takes a window beyond 2^31-1',
      windowUpdate(1, 1_000_000),
      settings(setting(4, 2 ** 31 - 1)),
    ],
  ]),
  ...rulesWith({ expect: { stream: 'protocolError' } }, [['§6.9 an increment of 0 on a stream', windowUpdate(1, 0)]]),
  ...rulesWith({ expect: { stream: 'flowControlError' } }, [
    ['§6.9.1 a window of a stream beyond 2^31-1', windowUpdate(1, 2 ** 31 - 1)],
  ]),
];
