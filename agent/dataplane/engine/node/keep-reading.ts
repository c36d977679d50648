import type net from 'node:net';

/**
 * Two directions at full speed stand still for at most this long. On a tunnel that moves nothing the checks become rarer,
 * each pause twice the one before, because 200 a second would be 2 % of a core for every tunnel that is only held open.
 */
const shortestPauseMs = 5;
const longestPauseMs = 80;

/**
 * Keeps a `node:http2` session reading while its own write is stuck. Node stops reading the socket for as long as a
 * write is in progress; when both agents have more to say than the kernel's buffers hold, both stop reading and neither
 * write ever ends: four echoed streams of 1 MiB are enough. nghttp2 bounds what a peer can make us queue meanwhile
 * (1000 answers to PING and SETTINGS, then GOAWAY), so there is nothing to fear from reading on.
 *
 * Node has no public call for it: this function is the one place that touches the handle of a tunnel's socket. Reading
 * that is on already is left as it is by the call. Returns what stops it.
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
