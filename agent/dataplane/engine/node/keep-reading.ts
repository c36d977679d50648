import type net from 'node:net';

/**
 * Two directions at full speed stall for at most this long. On a tunnel that moves nothing the checks become rarer,
 * each pause twice the previous, because 200 checks a second would cost 2 % of a core for every idle tunnel.
 */
const shortestPauseMs = 5;
const longestPauseMs = 80;

/**
 * Keeps a `node:http2` session reading while its own write is stuck. Node stops reading the socket while a write is in
 * progress. When both agents have more to send than the kernel's buffers hold, both stop reading and neither write ever
 * completes; four echoed streams of 1 MiB are enough. nghttp2 bounds what a peer can make us queue meanwhile (1000
 * answers to PING and SETTINGS, then GOAWAY), so continuing to read is safe.
 *
 * Node has no public call for it: this function is the only place that touches the handle of a tunnel's socket. The
 * call has no effect if reading is already on. Returns a function that stops it.
 */
export function keepReading(socket: net.Socket): () => void {
  let pauseMs = shortestPauseMs;
  let bytesSeen = socket.bytesRead;
  const check = (): void => {
    const { _handle: handle } = socket as unknown as { readonly _handle?: { readStart?: () => number } | null };
    handle?.readStart?.();
    const { bytesRead } = socket;
    pauseMs = bytesRead === bytesSeen ? Math.min(2 * pauseMs, longestPauseMs) : shortestPauseMs;
    bytesSeen = bytesRead;
    timer = setTimeout(check, pauseMs);
    timer.unref();
  };
  let timer = setTimeout(check, pauseMs);
  timer.unref();
  return () => clearTimeout(timer);
}
