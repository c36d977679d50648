import http2, { type Http2Stream } from 'node:http2';
import type { Http2Engine } from '../http2-engine.js';
import { asTunnelStream, resetStream } from './http2-stream.js';
import { keepReading } from './keep-reading.js';
import { serverSessionOptions, sessionOptions } from '../session-options.js';

/** {@link Http2Engine} on `node:http2`, that is, nghttp2. */
export const nodeHttp2Engine: Http2Engine = {
  connect: (socket, settings) => {
    const session = http2.connect('https://tunnel', { ...sessionOptions(settings), createConnection: () => socket });
    session.once('connect', () => session.setLocalWindowSize(settings.tunnelWindowBytes));
    return session;
  },
  accept: (socket, settings) => {
    const session = http2.performServerHandshake(socket, serverSessionOptions(settings));
    session.setLocalWindowSize(settings.tunnelWindowBytes);
    return session;
  },
  asTunnelStream: (stream, deathOfTunnel) => asTunnelStream(stream as unknown as Http2Stream, deathOfTunnel),
  resetStream: (stream, code) => resetStream(stream as unknown as Http2Stream, code),
  keepReading,
};
