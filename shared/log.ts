import { destination, pino, type DestinationStream, type Logger } from 'pino';

export type Log = Logger;

export const logLevels = ['error', 'warn', 'info', 'debug', 'trace'] as const;
export type LogLevel = (typeof logLevels)[number];

/** Lines that may wait for a slow reader of stdout. What exceeds this is dropped, so that memory stays bounded. */
const maxWaitingBytes = 16 * 1024 * 1024;

/**
 * A logger that writes one JSON object per line to stdout and never blocks the thread: a stalled reader costs the lines
 * beyond 16 MiB, never the service. `time` is RFC 3339. Call {@link flushLog} before the process ends.
 */
export function createLog(options: {
  readonly name: string;
  readonly level: LogLevel;
  /** For tests; default stdout. */
  readonly stream?: DestinationStream;
}): Log {
  const stream = options.stream ?? destination({ fd: 1, sync: false, minLength: 0, maxLength: maxWaitingBytes });
  return pino(
    {
      name: options.name,
      level: options.level,
      base: { pid: process.pid },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: serializeError },
    },
    stream,
  );
}

/** Resolves when all lines logged so far have been written. */
export function flushLog(log: Log): Promise<void> {
  return new Promise((resolve) => {
    log.flush(() => resolve());
  });
}

/** Code, hint and the chain of causes of an error. Expected failures, which have a code, get no stack. */
function serializeError(error: unknown): unknown {
  if (!(error instanceof Error)) return { message: String(error) };
  const { code, hint } = error as { code?: unknown; hint?: unknown };
  return {
    message: error.message,
    ...(code === undefined ? {} : { code }),
    ...(hint === undefined ? {} : { hint }),
    ...(error.cause === undefined ? {} : { cause: serializeError(error.cause) }),
    ...(code === undefined ? { stack: error.stack } : {}),
  };
}
