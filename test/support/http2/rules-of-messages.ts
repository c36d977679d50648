import { encodeFrame, encodeHeaders, endHeaders, endStream, frameType } from '../tunnel/tunnel-raw-peer.js';
import { responseFrame, uint32 } from './engine-fixture.js';
import { data, headers, rulesWith, type Rule } from './rule.js';

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

/** Rules of RFC 9113, §8, for the receiver of requests or responses. */
export const rulesOfMessages: readonly Rule[] = [
  ...rulesWith({ to: 'client before the answer', expect: { stream: 'protocolError' } }, [
    ['§8.1 DATA does not come before the answer', data(1, 'x')],
    ['§8.1 an interim answer does not end the stream', responseFrame(1, '103', endHeaders | endStream)],
    ['§8.1 trailers end the stream', responseFrame(1, '503'), headers(1, { x: 'y' })],
    ['§8.1 trailers have no pseudo fields', responseFrame(1, '503'), responseFrame(1, '200', endHeaders | endStream)],
    ['§8.2.1 a malformed response is as bad', headers(1, { ':status': '200', 'X-a': 'y' })],
    ['§8.3 :method in a response', headers(1, { ':status': '200', ':method': 'GET' })],
    ['§8.3.2 a response without :status', headers(1, { x: 'y' })],
    ['§8.3.2 a :status that is no number', responseFrame(1, '20x')],
    ['§8.6 status 101', responseFrame(1, '101')],
  ]),
  ...rulesWith({ to: 'client before the answer', expect: 'nothing' }, [
    ['§8.1 interim answers come before the answer', responseFrame(1, '103'), responseFrame(1, '200')],
    [
      '§8.1 trailers of an answer that refuses are allowed',
      responseFrame(1, '503'),
      headers(1, { x: 'y' }, endHeaders | endStream),
    ],
    [
      '§8.1 a server may answer before the request has ended, and then ask for no more',
      responseFrame(1, '503', endHeaders | endStream),
      encodeFrame(frameType.rst, 0, 1, uint32(0)),
    ],
    [
      '§8.1.1 content-length of an answer that makes a tunnel means nothing (RFC 9110 §9.3.6)',
      headers(1, { ':status': '200', 'content-length': '1' }),
      data(1, 'more'),
    ],
  ]),
  ...rulesWith({ to: 'client before the answer', expect: { stream: 'streamClosed' } }, [
    [
      '§8.1 DATA does not come after trailers',
      responseFrame(1, '503'),
      headers(1, { x: 'y' }, endHeaders | endStream),
      data(1, 'z'),
    ],
  ]),
  ...rulesWith(malformed, [
    ['§8.2.1 upper case in a name', request(3, [...connect, ['X-a', 'y']])],
    ['§8.2.1 a blank in a name', request(3, [...connect, ['x a', 'y']])],
    ['§8.2.1 an octet beyond ASCII in a name', request(3, [...connect, ['x\u007f', 'y']])],
    ['§8.2.1 a colon within a name', request(3, [...connect, ['x:y', 'y']])],
    ['§8.2.1 an empty name', request(3, [...connect, ['', 'y']])],
    ['§8.2.1 LF in a value', request(3, [...connect, ['x', 'a\nb']])],
    ['§8.2.1 CR in a value', request(3, [...connect, ['x', 'a\rb']])],
    ['§8.2.1 NUL in a value', request(3, [...connect, ['x', 'a\0b']])],
    ['§8.2.1 white space at the start of a value', request(3, [...connect, ['x', ' a']])],
    ['§8.2.1 white space at the end of a value', request(3, [...connect, ['x', 'a\t']])],
    ['§8.2.2 connection', request(3, [...connect, ['connection', 'close']])],
    ['§8.2.2 proxy-connection', request(3, [...connect, ['proxy-connection', 'close']])],
    ['§8.2.2 keep-alive', request(3, [...connect, ['keep-alive', '5']])],
    ['§8.2.2 transfer-encoding', request(3, [...connect, ['transfer-encoding', 'chunked']])],
    ['§8.2.2 upgrade', request(3, [...connect, ['upgrade', 'x']])],
    ['§8.2.2 te but for trailers', request(3, [...connect, ['te', 'gzip']])],
    ['§8.3 an unknown pseudo field', request(3, [...connect, [':x', 'y']])],
    ['§8.3 :status in a request', request(3, [...connect, [':status', '200']])],
    [
      '§8.3 a pseudo field after a field',
      request(3, [
        [':method', 'CONNECT'],
        ['x', 'y'],
        [':authority', 'a:1'],
      ]),
    ],
    ['§8.3 a pseudo field twice', request(3, [...connect, [':method', 'CONNECT']])],
    ['§8.3 a pseudo field in upper case', request(3, [...connect, [':PATH', '/']])],
    ['§8.3 a name that is a colon alone', request(3, [...connect, [':', '/']])],
    ['§8.3.1 a request without :method', request(3, [[':authority', 'a:1']])],
    ['§8.3.1 a request without :scheme', headers(3, { ':method': 'GET', ':path': '/' })],
    ['§8.3.1 a request with an empty :path', headers(3, { ...get, ':path': '' })],
    ['§8.3.1 a request without :path', headers(3, { ':method': 'GET', ':scheme': 'https' })],
    ['§8.3.1 an empty :method', headers(3, { ...get, ':method': '' })],
    ['§8.5 a CONNECT without :authority', request(3, [[':method', 'CONNECT']])],
    ['§8.5 a CONNECT with :path', request(3, [...connect, [':path', '/']])],
    ['§8.5 a CONNECT with :scheme', request(3, [...connect, [':scheme', 'https']])],
    [
      '§8.5 a CONNECT with :protocol, which we did not announce (RFC 8441)',
      request(3, [...connect, [':protocol', 'websocket']]),
    ],
  ]),
  ...rulesWith({ expect: 'nothing' }, [
    ['§8.2.1 an empty value is allowed', request(3, [...connect, ['x', '']])],
    ['§8.2.2 te: trailers is allowed', request(3, [...connect, ['te', 'trailers']])],
    ['§8.3.1 another method than CONNECT is for the caller to judge', headers(3, get)],
    [
      '§8.5 stream management within a tunnel is allowed',
      encodeFrame(frameType.window, 0, 1, uint32(1)),
      encodeFrame(2, 0, 1, Buffer.alloc(5)),
      encodeFrame(frameType.rst, 0, 1, uint32(10)),
    ],
  ]),
  ...rulesWith({ expect: { stream: 'protocolError' } }, [
    ['§8.5 HEADERS of the client within a tunnel', headers(1, { x: 'y' }, endHeaders | endStream)],
  ]),
  ...rulesWith({ to: 'client', expect: { stream: 'protocolError' } }, [
    ['§8.5 HEADERS of the server within a tunnel', headers(1, { x: 'y' }, endHeaders | endStream)],
  ]),
  ...rulesWith({ expect: { stream: 'enhanceYourCalm' }, streamId: 3 }, [
    [
      '§10.5.1 a header list beyond SETTINGS_MAX_HEADER_LIST_SIZE',
      request(3, [
        ...connect,
        ...Array.from({ length: 15 }, (_unused, at) => ['x', String(at).padEnd(120, 'y')] as const),
        ...Array.from({ length: 15 }, () => ['x', 'y'] as const),
      ]),
    ],
  ]),
];
