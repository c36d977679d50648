/** A parsed line of nats-server's log, without its time. */
export type NatsLogLine = {
  readonly level: 'debug' | 'info' | 'warn' | 'error' | 'fatal';
  readonly text: string;
  readonly event?: NatsLogEvent;
};

export type NatsLogEvent =
  | { readonly kind: 'listening'; readonly port: number }
  | { readonly kind: 'ready' }
  | { readonly kind: 'reloaded' }
  | { readonly kind: 'reload-failed' }
  | ({ readonly kind: 'refused' } & RefusedOperation);

/** An operation that the server's permissions or authentication refused. */
export type RefusedOperation = {
  readonly operation: 'publish' | 'subscribe' | 'connect';
  /** Null for `connect`. */
  readonly subject: string | null;
  /** Public key of the user (`U…`); null when none was authenticated. */
  readonly user: string | null;
  /** The client's `address:port`. */
  readonly remote: string;
};

const levels = { INF: 'info', WRN: 'warn', ERR: 'error', FTL: 'fatal', DBG: 'debug', TRC: 'debug' } as const;

/** Never throws: a line in an unknown format counts as a warning. */
export function parseNatsLogLine(line: string): NatsLogLine {
  const match = /^\[\d+\] \[(INF|WRN|ERR|FTL|DBG|TRC)\] (.*)$/.exec(line);
  const level = levels[(match?.[1] ?? 'WRN') as keyof typeof levels];
  const text = match?.[2] ?? line;
  const event = eventOf(text);
  // A client that went away before the handshake was over: a probe of the port, or an agent that dials to say what is wrong.
  if (/^\S+ - \w+:\d+ - TLS handshake error: (?:EOF|.*connection reset by peer)$/.test(text))
    return { level: 'debug', text };
  return event === undefined ? { level, text } : { level, text, event };
}

/** The address of the client that a line is about; null: it is about none. */
export function clientOf(text: string): string | null {
  return /^\[?([^\s\]]+?)\]?:\d+ - \w+:\d+ /.exec(text)?.[1] ?? null;
}

function eventOf(text: string): NatsLogEvent | undefined {
  const listening = /^Listening for client connections on .*:(\d+)$/.exec(text);
  if (listening !== null) return { kind: 'listening', port: Number(listening[1]) };
  if (text === 'Server is ready') return { kind: 'ready' };
  if (text === 'Reloaded server configuration') return { kind: 'reloaded' };
  if (text.startsWith('Failed to reload server configuration')) return { kind: 'reload-failed' };
  return refusalOf(text);
}

/**
 * The line also contains the name that the client chose, quoted and escaped by the server, so the patterns are anchored
 * at both ends.
 */
function refusalOf(text: string): NatsLogEvent | undefined {
  const violation =
    /^(\S+) - \w+:\d+ (?:- .* )?- (Publish|Subscription) Violation - (?:(?:Nkey|JWT User|User) "([^"]*)", )?Subject "([^"]*)"(?:, .*)?$/.exec(
      text,
    );
  if (violation !== null) {
    const [, remote = '', what, user = null, subject = null] = violation;
    return { kind: 'refused', operation: what === 'Publish' ? 'publish' : 'subscribe', subject, user, remote };
  }
  const refused =
    /^(\S+) - \w+:\d+ (?:- .* )?- (?:authentication error|User authentication expired|maximum .* exceeded)(?: .*)?$/i.exec(
      text,
    );
  if (refused === null) return undefined;
  return { kind: 'refused', operation: 'connect', subject: null, user: null, remote: refused[1] ?? '' };
}
