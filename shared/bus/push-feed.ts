import { createInbox, isFlowControlMsg, type Msg, type NatsConnection, type NatsError, type Subscription } from 'nats';
import { z } from 'zod';
import { busError, toStoreError } from './bus-error.js';
import type { ConsumerName, ConsumerNames } from './consumer-names.js';

/** A stored message as a feed delivers it. */
export type FeedMessage = {
  readonly subject: string;
  readonly bytes: Uint8Array;
  /** Of subject, headers and content. */
  readonly sizeBytes: number;
  readonly isDeletion: boolean;
  readonly sequence: number;
  /** Nanoseconds since the epoch, as text. With `sequence` it identifies a message even after the store was wiped. */
  readonly storedAt: string;
};

export type FeedOptions = {
  readonly connection: NatsConnection;
  readonly inboxPrefix: string;
  readonly names: ConsumerNames;
  readonly stream: string;
  /** Subjects to deliver. */
  readonly filter: string;
  readonly isHeadersOnly?: boolean;
  /** Delivers every message from this sequence on, instead of the last message of each subject. */
  readonly fromSequence?: number;
  readonly onMessage: (message: FeedMessage) => void;
  /** Called once, when every message that was stored at the start has been delivered, or at once for an empty stream. */
  readonly onListed: () => void;
  /** Called at most once, when the feed has ended; the owner opens another to go on. Never called after `stop`. */
  readonly onEnd: (error: unknown) => void;
};

export interface Feed {
  stop(): void;
}

const heartbeatMs = 3000;
const silenceMs = 2.5 * heartbeatMs;
const createTimeoutMs = 5000;

const consumerReplySchema = z.union([
  z.object({ error: z.object({ code: z.number(), err_code: z.number().optional(), description: z.string() }) }),
  z.object({ num_pending: z.number(), delivered: z.object({ consumer_seq: z.number() }) }),
]);

/**
 * Delivers the last message of every subject under a filter (or all from a sequence on), then every new one, in order. It
 * uses one ephemeral push consumer and ends at the first gap. It does not repair itself: after a server restart or a wiped
 * store only a new list is correct, and the client library's own ordered consumer would resume at a sequence number that
 * is no longer valid.
 * Source: NATS ADR-8 (key-value), ADR-13 (pull and push consumers); the name in the create subject needs server 2.9.
 */
export async function openFeed(init: FeedOptions): Promise<Feed> {
  const feed = new PushFeed(init);
  await feed.start();
  return feed;
}

class PushFeed implements Feed {
  readonly #init: FeedOptions;
  #subscription: Subscription | undefined;
  #name: ConsumerName | undefined;
  #silence: NodeJS.Timeout | undefined;
  #received = 0;
  /** Length of the first list; undefined until the server has reported it. */
  #expected: number | undefined;
  #isListed = false;
  #isOver = false;

  constructor(init: FeedOptions) {
    this.#init = init;
  }

  async start(): Promise<void> {
    const { connection, inboxPrefix, stream, filter, fromSequence } = this.#init;
    const { name, createSubject } = await this.#takeName();
    const inbox = createInbox(inboxPrefix);
    this.#subscription = connection.subscribe(inbox, { callback: (error, message) => this.#take(error, message) });
    const config = {
      name,
      deliver_subject: inbox,
      ...(fromSequence === undefined
        ? { deliver_policy: 'last_per_subject' }
        : { deliver_policy: 'by_start_sequence', opt_start_seq: fromSequence }),
      ack_policy: 'none',
      max_deliver: 1,
      filter_subject: filter,
      replay_policy: 'instant',
      flow_control: true,
      idle_heartbeat: heartbeatMs * 1e6,
      inactive_threshold: 30e9,
      mem_storage: true,
      num_replicas: 1,
      headers_only: this.#init.isHeadersOnly === true,
    };
    try {
      const reply = await connection.request(createSubject(filter), JSON.stringify({ stream_name: stream, config }), {
        timeout: createTimeoutMs,
      });
      const parsed = consumerReplySchema.parse(JSON.parse(reply.string()));
      if ('error' in parsed) throw apiFailure(stream, parsed.error);
      this.#expected = parsed.num_pending + parsed.delivered.consumer_seq;
    } catch (error) {
      this.stop();
      throw toStoreError(`cannot follow the stream ${stream}`, error);
    }
    // The feed may have ended or completed its list before the answer to the request was read.
    if (this.#isOver) return;
    this.#watchSilence();
    this.#checkListed(false);
  }

  stop(): void {
    this.#isOver = true;
    clearTimeout(this.#silence);
    this.#subscription?.unsubscribe();
    this.#name?.release();
    this.#name = undefined;
  }

  async #takeName(): Promise<ConsumerName> {
    const { names, stream } = this.#init;
    try {
      return (this.#name = await names.take(stream));
    } catch (error) {
      throw toStoreError(`cannot follow the stream ${stream}`, error);
    }
  }

  #take(error: NatsError | null, message: Msg): void {
    if (this.#isOver) return;
    if (error !== null) return this.#end(toStoreError(`the feed of ${this.#init.stream} was refused`, error));
    this.#watchSilence();
    if (message.headers?.code === 100 && message.data.length === 0) return this.#takeHeartbeat(message);
    if (message.headers !== undefined && message.headers.code >= 400) {
      return this.#end(
        busError('BUS_FAILED', `the feed of ${this.#init.stream} ended: ${message.headers.description}`),
      );
    }
    const position = parsePosition(message.reply);
    // A message without a consumer's reply subject is not from a consumer; its own subject proves nothing.
    if (position === undefined || position.stream !== this.#init.stream) return;
    if (position.delivery !== this.#received + 1) return this.#end(this.#gap());
    this.#received += 1;
    const operation = message.headers?.get('KV-Operation');
    this.#init.onMessage({
      subject: message.subject,
      bytes: message.data,
      sizeBytes: sizeOf(message),
      isDeletion: operation === 'DEL' || operation === 'PURGE',
      sequence: position.sequence,
      storedAt: position.storedAt,
    });
    this.#checkListed(position.pending === 0);
  }

  #takeHeartbeat(message: Msg): void {
    const stalled = message.headers?.get('Nats-Consumer-Stalled') ?? '';
    if (isFlowControlMsg(message)) message.respond();
    else if (stalled !== '') this.#init.connection.publish(stalled);
    const last = message.headers?.get('Nats-Last-Consumer') ?? '';
    if (last !== '' && Number(last) > this.#received) this.#end(this.#gap());
    // An idle heartbeat: messages missing from the count were replaced or removed while the list was being sent.
    else if (stalled === '' && this.#expected !== undefined && !isFlowControlMsg(message)) this.#checkListed(true);
  }

  #checkListed(isLast: boolean): void {
    if (this.#isListed || this.#isOver) return;
    // The last message may arrive before the reply to the request; a `pending` of 0 is correct either way.
    if (!isLast && (this.#expected === undefined || this.#received < this.#expected)) return;
    this.#isListed = true;
    this.#init.onListed();
  }

  #watchSilence(): void {
    if (this.#silence !== undefined) {
      this.#silence.refresh();
      return;
    }
    this.#silence = setTimeout(() => {
      this.#end(busError('BUS_TIMEOUT', `the stream ${this.#init.stream} has been silent for ${silenceMs} ms`));
    }, silenceMs);
  }

  #gap(): Error {
    return busError('BUS_FAILED', `a message of the stream ${this.#init.stream} was lost`);
  }

  #end(error: unknown): void {
    if (this.#isOver) return;
    this.stop();
    this.#init.onEnd(error);
  }
}

/** The client knows it and its type does not. */
function sizeOf(message: Msg): number {
  return (message as Msg & { size(): number }).size() - (message.reply?.length ?? 0);
}

type Position = { stream: string; sequence: number; delivery: number; storedAt: string; pending: number };

/**
 * Parses `$JS.ACK.<stream>.<consumer>.<attempts>.<sequence>.<delivery>.<time>.<pending>`. Since server 2.11 it may have
 * domain and account hash after `ACK` and a random token at the end (ADR-15).
 */
function parsePosition(reply: string | undefined): Position | undefined {
  const tokens = reply?.split('.') ?? [];
  if (tokens[0] !== '$JS' || tokens[1] !== 'ACK') return undefined;
  const fields = tokens.length === 9 ? tokens.slice(2) : tokens.length >= 11 ? tokens.slice(4, 11) : [];
  const [stream, , , sequence, delivery, storedAt, pending] = fields;
  if (stream === undefined || storedAt === undefined || pending === undefined) return undefined;
  return { stream, sequence: Number(sequence), delivery: Number(delivery), storedAt, pending: Number(pending) };
}

function apiFailure(stream: string, error: { err_code?: number | undefined; description: string }): Error {
  const isMissing = error.err_code === 10059 || error.err_code === 10039;
  return busError(
    isMissing ? 'BUS_NOT_FOUND' : 'BUS_FAILED',
    `cannot follow the stream ${stream}: ${error.description}`,
  );
}
