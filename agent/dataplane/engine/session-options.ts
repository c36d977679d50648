import type http2 from 'node:http2';
import type { DataplaneSettings } from '../settings.js';

/** The part of the settings that tunnels need. */
export type TunnelSettings = Pick<
  DataplaneSettings,
  | 'connectTimeoutMs'
  | 'tlsHandshakeTimeoutMs'
  | 'streamWindowBytes'
  | 'tunnelWindowBytes'
  | 'maxStreamsPerTunnel'
  | 'maxConnectionsPerPeer'
  | 'tunnelPingIntervalMs'
  | 'tunnelPingTimeoutMs'
  | 'tunnelIdleTimeoutMs'
>;

/** Largest DATA frame accepted from a peer. Node itself sends frames of 16 KiB. */
export const maxFrameBytes = 1_048_576;
export const maxHeaderListBytes = 16_384;
/** Pseudo headers, forwarded, baggage, traceparent, and room for what ztunnel may add. */
export const maxHeaderPairs = 32;

/**
 * What one stream may have queued for sending inside nghttp2: the relay stops at 64 KiB above one read of 64 KiB, and a
 * writev takes all of it at once.
 */
const queuedBytesPerStream = 262_144;

/**
 * Megabytes that one session may use before it refuses new streams (ENHANCE_YOUR_CALM). Node counts the send queue,
 * header tables, streams and unanswered PINGs, but not received data, which the stream windows bound. The default of 10
 * MB is used up by forty streams that wait for a slow peer, and the 41st would be refused, so the size follows the
 * number of allowed streams. Source: node:http2 documentation, `maxSessionMemory`.
 */
export function maxSessionMemoryMb(maxStreams: number): number {
  return Math.ceil((maxStreams * queuedBytesPerStream) / 1_000_000) + 16;
}

/**
 * Options of both sides of a tunnel. `settings` are announced to the peer; the rest limits what it can make us hold.
 */
export function sessionOptions(settings: TunnelSettings): http2.SessionOptions {
  return {
    maxSessionMemory: maxSessionMemoryMb(settings.maxStreamsPerTunnel),
    maxHeaderListPairs: maxHeaderPairs,
    maxOutstandingPings: 4,
    maxSettings: 16,
    settings: {
      enablePush: false,
      initialWindowSize: settings.streamWindowBytes,
      maxFrameSize: maxFrameBytes,
      maxHeaderListSize: maxHeaderListBytes,
    },
  };
}

/**
 * Like {@link sessionOptions}. A peer that sends broken frames or opens streams beyond the limit is disconnected early.
 */
export function serverSessionOptions(settings: TunnelSettings): http2.ServerOptions {
  const options = sessionOptions(settings);
  return {
    ...options,
    settings: { ...options.settings, maxConcurrentStreams: settings.maxStreamsPerTunnel },
    maxSessionInvalidFrames: 100,
    maxSessionRejectedStreams: 100,
  };
}
