import type { Http2Engine } from '../http2-engine.js';
import { maxFrameBytes, maxHeaderListBytes, maxHeaderPairs, type TunnelSettings } from '../session-options.js';
import type { EngineLimits } from './engine-limits.js';
import { LeanSession } from './lean-session.js';
import { LeanStream } from './lean-stream.js';
import { SocketTransport } from './socket-transport.js';

/** Enough for most responses. A longer response is worth the round trips in which its window grows. */
const usualFirstWindowBytes = 131_072;
const leastFirstWindowBytes = 65_535;

/**
 * {@link Http2Engine} in TypeScript: supports only what tunnels need, with one write for each turn of the event loop.
 */
export const leanHttp2Engine: Http2Engine = {
  connect: (socket, settings) =>
    new LeanSession({ transport: new SocketTransport(socket), role: 'client', limits: limitsOf(settings) }),
  accept: (socket, settings) =>
    new LeanSession({ transport: new SocketTransport(socket), role: 'server', limits: limitsOf(settings) }),
  asTunnelStream: (stream, deathOfTunnel) => {
    const lean = leanStream(stream);
    lean.deathOfTunnel = deathOfTunnel;
    return lean;
  },
  resetStream: (stream, code) => leanStream(stream).reset(code),
  keepReading: () => () => {},
};

function leanStream(stream: unknown): LeanStream {
  if (!(stream instanceof LeanStream)) throw new TypeError('the stream belongs to another engine');
  return stream;
}

function limitsOf(settings: TunnelSettings): EngineLimits {
  return {
    firstWindowBytes: firstWindowBytes(settings),
    streamWindowBytes: settings.streamWindowBytes,
    connectionWindowBytes: settings.tunnelWindowBytes,
    maxFrameBytes,
    maxStreams: settings.maxStreamsPerTunnel,
    maxHeaderListBytes,
    maxHeaderFields: maxHeaderPairs,
  };
}

/** Small enough that the first windows of all streams of a full tunnel fit into its window together. */
function firstWindowBytes({ streamWindowBytes, tunnelWindowBytes, maxStreamsPerTunnel }: TunnelSettings): number {
  const share = Math.floor(tunnelWindowBytes / maxStreamsPerTunnel);
  return Math.min(streamWindowBytes, Math.max(leastFirstWindowBytes, Math.min(share, usualFirstWindowBytes)));
}
