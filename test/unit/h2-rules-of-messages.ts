import { encodeFrame, encodeHeaders, endHeaders, endStream, frameType } from '../contract/tunnel-raw-peer.js';
import { responseFrame, uint32 } from './h2-engine-fixture.js';
import { data, headers, type Rule } from './h2-rule.js';

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

/** What RFC 9113 says in §8 to whoever receives requests or responses. */
export const rulesOfMessages: readonly Rule[] = [
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
  {
    rule: '§8.1 DATA does not come after trailers',
    to: 'client before the answer',
    send: [responseFrame(1, '503'), headers(1, { x: 'y' }, endHeaders | endStream), data(1, 'z')],
    expect: { stream: 'streamClosed' },
  },
  {
    rule: '§8.1 a server may answer before the request has ended, and then ask for no more',
    to: 'client before the answer',
    send: [responseFrame(1, '503', endHeaders | endStream), encodeFrame(frameType.rst, 0, 1, uint32(0))],
    expect: 'nothing',
  },
  {
    rule: '§8.1.1 content-length of an answer that makes a tunnel means nothing (RFC 9110 §9.3.6)',
    to: 'client before the answer',
    send: [headers(1, { ':status': '200', 'content-length': '1' }), data(1, 'more')],
    expect: 'nothing',
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
  {
    rule: '§8.2.1 a malformed response is as bad',
    to: 'client before the answer',
    send: headers(1, { ':status': '200', 'X-a': 'y' }),
    expect: { stream: 'protocolError' },
  },
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
  { rule: '§8.3 a pseudo field in upper case', send: request(3, [...connect, [':PATH', '/']]), ...malformed },
  { rule: '§8.3 a name that is a colon alone', send: request(3, [...connect, [':', '/']]), ...malformed },
  { rule: '§8.3.1 a request without :method', send: request(3, [[':authority', 'a:1']]), ...malformed },
  { rule: '§8.3.1 a request without :scheme', send: headers(3, { ':method': 'GET', ':path': '/' }), ...malformed },
  { rule: '§8.3.1 a request with an empty :path', send: headers(3, { ...get, ':path': '' }), ...malformed },
  { rule: '§8.3.1 another method than CONNECT is for the caller to judge', send: headers(3, get), expect: 'nothing' },
  { rule: '§8.3.1 a request without :path', send: headers(3, { ':method': 'GET', ':scheme': 'https' }), ...malformed },
  { rule: '§8.3.1 an empty :method', send: headers(3, { ...get, ':method': '' }), ...malformed },
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
    rule: '§8.5 a CONNECT with :protocol, which we did not announce (RFC 8441)',
    send: request(3, [...connect, [':protocol', 'websocket']]),
    ...malformed,
  },
  {
    rule: '§8.5 stream management within a tunnel is allowed',
    send: [
      encodeFrame(frameType.window, 0, 1, uint32(1)),
      encodeFrame(2, 0, 1, Buffer.alloc(5)),
      encodeFrame(frameType.rst, 0, 1, uint32(10)),
    ],
    expect: 'nothing',
  },
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
