import { EventEmitter, once } from 'node:events';
import {
  DebugEvents,
  DiscardPolicy,
  Events,
  type JetStreamManager,
  type Msg,
  type NatsConnection,
  type NatsError,
  type Status,
  type StreamConfig,
} from 'nats';
import type { Bucket, BucketOptions } from './bucket.js';
import type {
  Bus,
  BusMessage,
  BusStatus,
  DeniedOperation,
  FollowStreamOptions,
  RemoveOptions,
  RequestOptions,
  ServeHandler,
  StoreGuard,
  StreamConsumer,
  StreamFollow,
  StreamSettings,
} from './bus.js';
import { busError, explainedStoreError, toBusError, toDialError, toServerError, toStoreError } from './bus-error.js';
import { ConsumerNames } from './consumer-names.js';
import type { FeedLink } from './feed-loop.js';
import { NatsBucket, bucketStreamConfig } from './nats-bucket.js';
import type { ReconnectPace } from './reconnect-delay.js';
import { mayAnswerTo } from './subjects.js';
import { untilLost } from './until-lost.js';
import { withSignal } from './with-signal.js';
import { applyStreamConfig } from './stream-config.js';
import { ResumingFollow } from './stream-follow.js';

/** Concurrent handlers per subscription. Beyond it requests are dropped, and their senders retry. */
const maxRunningHandlers = 512;
const jetStreamTimeoutMs = 5000;

type BusEvents = { status: [BusStatus]; denied: [DeniedOperation]; lost: [] };

export type NatsBusInit = {
  readonly connection: NatsConnection;
  readonly inboxPrefix: string;
  readonly consumerPrefix: () => string | null;
  readonly onProblem: (error: unknown) => void;
  readonly pace: ReconnectPace;
  /** Why a server cannot be reached; null: it can. */
  readonly dialProblem: (server: string, signal: AbortSignal) => Promise<unknown>;
  readonly storeGuard: StoreGuard;
};

/** {@link Bus} on the `nats` package; `connectBus` creates it. */
export class NatsBus implements Bus {
  readonly #init: NatsBusInit;
  readonly #connection: NatsConnection;
  readonly #events = new EventEmitter<BusEvents>();
  readonly #closing = new AbortController();
  readonly #consumerNames: ConsumerNames;
  readonly #running = new Set<Promise<void>>();
  #currentStatus: BusStatus = 'connected';
  #isDiagnosing = false;
  /** The server said why it refused the last attempt. */
  #isAnswered = false;

  constructor(init: NatsBusInit) {
    this.#init = init;
    this.#connection = init.connection;
    this.#consumerNames = new ConsumerNames({ connection: init.connection, prefix: init.consumerPrefix });
    this.#events.setMaxListeners(0);
    void this.#followStatus();
    void this.#connection.closed().then((error) => {
      this.#setStatus('disconnected');
      if (!this.#closing.signal.aborted) init.onProblem(toBusError('the NATS client stopped reconnecting', error));
      this.#closing.abort();
    });
  }

  get status(): BusStatus {
    return this.#currentStatus;
  }

  get server(): string {
    return this.#connection.getServer();
  }

  get inboxPrefix(): string {
    return this.#init.inboxPrefix;
  }

  onStatus(listener: (status: BusStatus) => void): () => void {
    this.#events.on('status', listener);
    return () => this.#events.off('status', listener);
  }

  onDenied(listener: (denied: DeniedOperation) => void): () => void {
    this.#events.on('denied', listener);
    return () => this.#events.off('denied', listener);
  }

  async request(subject: string, bytes: Uint8Array, options: RequestOptions): Promise<Uint8Array> {
    const what = `no answer on ${subject}`;
    this.#assertConnected(`send a request on ${subject}`);
    const asked = this.#connection.request(subject, bytes, { timeout: options.timeoutMs });
    const reply = untilLost({ what, answer: asked, onDisconnect: this.#onDisconnect });
    try {
      return (await (options.signal === undefined ? reply : withSignal(reply, options.signal))).data;
    } catch (error) {
      options.signal?.throwIfAborted();
      throw toBusError(what, error);
    }
  }

  serve(
    subject: string,
    handler: ServeHandler,
    onError: (error: unknown) => void,
    isWelcome: (subject: string) => boolean = () => true,
  ): () => void {
    let runningHere = 0;
    const answer = async (message: Msg): Promise<void> => {
      runningHere += 1;
      try {
        const reply = await handler({ subject: message.subject, bytes: message.data });
        if (reply !== undefined && !this.#connection.isClosed()) message.respond(reply);
      } catch (error) {
        onError(error);
      } finally {
        runningHere -= 1;
      }
    };
    const take = (error: NatsError | null, message: Msg): void => {
      if (error !== null) return onError(toBusError(`cannot serve ${subject}`, error));
      if (!isWelcome(message.subject)) return;
      if (message.reply !== undefined && message.reply !== '' && !mayAnswerTo(message.reply, message.subject)) {
        return onError(
          busError(
            'BUS_DENIED',
            `dropped a request on ${message.subject}: its reply subject ${message.reply} is not an inbox of the sender`,
          ),
        );
      }
      if (runningHere >= maxRunningHandlers) {
        return onError(
          busError('BUS_OVERLOADED', `dropped a request on ${message.subject}: ${runningHere} are already running`),
        );
      }
      this.#keep(answer(message));
    };
    const subscription = this.#connection.subscribe(subject, { callback: take });
    return () => {
      if (!this.#connection.isClosed()) subscription.unsubscribe();
    };
  }

  observe(subject: string, listener: (message: BusMessage) => void): () => void {
    const callback = (error: NatsError | null, message: Msg): void => {
      if (error !== null) return this.#init.onProblem(toBusError(`cannot observe ${subject}`, error));
      listener({ subject: message.subject, bytes: message.data });
    };
    const subscription = this.#connection.subscribe(subject, { callback });
    return () => {
      if (!this.#connection.isClosed()) subscription.unsubscribe();
    };
  }

  publish(subject: string, bytes: Uint8Array): boolean {
    if (this.#currentStatus !== 'connected' || this.#connection.isClosed()) return false;
    try {
      this.#connection.publish(subject, bytes);
      return true;
    } catch (error) {
      throw toBusError(`cannot publish on ${subject}`, error);
    }
  }

  async store(subject: string, bytes: Uint8Array, options: RequestOptions): Promise<void> {
    this.#assertConnected(`store on ${subject}`);
    const jetStream = this.#connection.jetstream({ checkAPI: false });
    const asked = jetStream.publish(subject, bytes, { timeout: options.timeoutMs });
    const stored = untilLost({ what: `cannot store on ${subject}`, answer: asked, onDisconnect: this.#onDisconnect });
    try {
      await (options.signal === undefined ? stored : withSignal(stored, options.signal));
    } catch (error) {
      options.signal?.throwIfAborted();
      throw toStoreError(`cannot store on ${subject}`, error);
    }
  }

  async bucket(name: string, options: BucketOptions = {}): Promise<Bucket> {
    const manager = await this.#manager();
    if (options.create !== undefined) {
      this.#assertConnected(`create the bucket ${name}`);
      await this.#configure(manager, bucketStreamConfig(name, options.create));
    }
    // bindOnly sends no request, so an agent needs no permission to read the stream's settings.
    const jetStream = this.#connection.jetstream({ checkAPI: false, timeout: jetStreamTimeoutMs });
    const kv = await jetStream.views.kv(name, { bindOnly: true, allow_direct: true });
    return new NatsBucket({
      name,
      kv,
      jetStream,
      manager,
      assertConnected: (what) => this.#assertConnected(what),
      link: this.#feedLink(),
      guard: this.#init.storeGuard,
    });
  }

  async ensureStream(settings: StreamSettings): Promise<void> {
    this.#assertConnected(`create the stream ${settings.name}`);
    await this.#configure(await this.#manager(), {
      name: settings.name,
      subjects: [...settings.subjects],
      max_age: settings.maxAgeMs * 1e6,
      max_bytes: settings.maxBytes,
      discard: settings.whenFull === 'refuse new' ? DiscardPolicy.New : DiscardPolicy.Old,
      ...(settings.maxMessageBytes === undefined ? {} : { max_msg_size: settings.maxMessageBytes }),
    });
  }

  async consumersOf(stream: string): Promise<StreamConsumer[]> {
    const what = `cannot list the consumers of ${stream}`;
    this.#assertConnected('list consumers');
    try {
      const manager = await this.#manager();
      const found: StreamConsumer[] = [];
      for await (const { name, config, created, push_bound: isBound } of manager.consumers.list(stream)) {
        const { deliver_subject: deliverSubject = null, durable_name: durable, inactive_threshold: idleNs } = config;
        found.push({
          name,
          deliverSubject,
          createdMs: Date.parse(created),
          // Absent in place of false.
          hasReader: (isBound as boolean | undefined) === true,
          // Without a time the server takes 5 s, and keeps a durable one.
          idleMs: idleNs === undefined || idleNs === 0 ? (durable === undefined ? 5000 : null) : idleNs / 1e6,
        });
      }
      return found;
    } catch (error) {
      throw toStoreError(what, error);
    }
  }

  async removeConsumer(stream: string, name: string): Promise<void> {
    const what = `cannot remove the consumer ${name} of ${stream}`;
    this.#assertConnected('remove a consumer');
    try {
      const manager = await this.#manager();
      await untilLost({ what, answer: manager.consumers.delete(stream, name), onDisconnect: this.#onDisconnect });
    } catch (error) {
      const failure = toStoreError(what, error);
      if (failure.code !== 'BUS_NOT_FOUND') throw failure;
    }
  }

  async removeStored({ stream, subject, upToSequence }: RemoveOptions): Promise<void> {
    const what = `cannot remove messages on ${subject}`;
    this.#assertConnected('remove messages');
    try {
      const manager = await this.#manager();
      const answer = manager.streams.purge(stream, { filter: subject, seq: upToSequence + 1 });
      await untilLost({ what, answer, onDisconnect: this.#onDisconnect });
    } catch (error) {
      throw toStoreError(what, error);
    }
  }

  async checkStore({ timeoutMs }: { readonly timeoutMs: number }): Promise<void> {
    this.#assertConnected('check the store');
    let asked = 'JetStream';
    try {
      const manager = await this.#connection.jetstreamManager({ checkAPI: false, timeout: timeoutMs });
      for await (const name of manager.streams.names()) {
        asked = `the stream ${name}`;
        const info = manager.streams.info(name).catch((error: unknown) => {
          // It was deleted meanwhile.
          if (toStoreError('', error).code !== 'BUS_NOT_FOUND') throw error;
        });
        await untilLost({ what: `cannot read ${asked}`, answer: info, onDisconnect: this.#onDisconnect });
      }
    } catch (error) {
      throw toStoreError(`cannot read ${asked}`, error);
    }
  }

  followStream(options: FollowStreamOptions): StreamFollow {
    return new ResumingFollow({ ...options, link: this.#feedLink(), manager: () => this.#manager() });
  }

  async drain(): Promise<void> {
    await Promise.allSettled(this.#running);
    this.#closing.abort();
    if (this.#connection.isClosed()) return;
    if (this.#currentStatus === 'connected') await this.#connection.drain();
    else await this.#connection.close();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#connection.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #configure(manager: JetStreamManager, config: Partial<StreamConfig> & { name: string }): Promise<void> {
    const { storeGuard } = this.#init;
    await storeGuard.beforeWriting(0);
    try {
      await applyStreamConfig(manager, config);
    } catch (error) {
      throw await explainedStoreError(`cannot set up the stream ${config.name}`, error, storeGuard);
    }
  }

  /** Tracks a running handler, so that `drain` can wait for it. */
  #keep(run: Promise<void>): void {
    const kept = run.finally(() => this.#running.delete(kept));
    this.#running.add(kept);
  }

  #feedLink(): FeedLink {
    return {
      connection: this.#connection,
      inboxPrefix: this.#init.inboxPrefix,
      names: this.#consumerNames,
      busClosed: this.#closing.signal,
      whenConnected: (signal) => this.#whenConnected(signal),
      onDisconnect: this.#onDisconnect,
    };
  }

  /** Calls the listener at every loss of the connection. Returns the function that removes it. */
  readonly #onDisconnect = (listener: () => void): (() => void) => {
    this.#events.on('lost', listener);
    return () => this.#events.off('lost', listener);
  };

  #manager(): ReturnType<NatsConnection['jetstreamManager']> {
    return this.#connection.jetstreamManager({ checkAPI: false, timeout: jetStreamTimeoutMs });
  }

  #assertConnected(what: string): void {
    if (this.#currentStatus === 'connected' && !this.#connection.isClosed()) return;
    throw busError('BUS_DISCONNECTED', `cannot ${what}: not connected to NATS`);
  }

  async #whenConnected(signal: AbortSignal): Promise<void> {
    while (this.#currentStatus !== 'connected') await once(this.#events, 'status', { signal });
  }

  async #followStatus(): Promise<void> {
    for await (const status of this.#connection.status()) this.#takeStatus(status);
  }

  #takeStatus(status: Status): void {
    if (status.type === DebugEvents.Reconnecting) this.#onDial();
    else if (status.type === Events.Disconnect) this.#setStatus('disconnected');
    else if (status.type === Events.Reconnect) this.#setStatus('connected');
    else if (status.type === Events.Error && status.permissionContext !== undefined) {
      const { operation, subject } = status.permissionContext;
      this.#events.emit('denied', { operation: operation === 'publish' ? 'publish' : 'subscribe', subject });
    } else if (status.type === Events.Error) {
      this.#onServerError(typeof status.data === 'string' ? status.data : JSON.stringify(status.data));
    }
  }

  /** The client says why the server refused an attempt, and nothing of attempts that did not get that far. */
  #onServerError(code: string): void {
    const isUp = this.#currentStatus === 'connected';
    const server = this.#connection.getServer();
    this.#isAnswered = true;
    this.#init.onProblem(
      toServerError(isUp ? 'nats-server reports an error' : `cannot connect to NATS at ${server}`, code),
    );
  }

  /** Says why the bus is still disconnected, from the second attempt on; the first is a moment after the loss. */
  #onDial(): void {
    const isAgain = this.#init.pace.hasDialled;
    this.#init.pace.dialled();
    const server = this.#connection.getServer();
    // The server said why at the last attempt, so dialling it in addition would add only noise to its log.
    const isAnswered = this.#isAnswered;
    this.#isAnswered = false;
    if (!isAgain || isAnswered || this.#isDiagnosing || server === '') return;
    this.#isDiagnosing = true;
    void this.#init.dialProblem(server, this.#closing.signal).then((problem) => {
      this.#isDiagnosing = false;
      if (problem === null || this.#currentStatus === 'connected' || this.#closing.signal.aborted) return;
      this.#init.onProblem(toDialError(`cannot connect to NATS at ${server}`, problem));
    });
  }

  #setStatus(status: BusStatus): void {
    if (status === 'disconnected') this.#events.emit('lost');
    if (this.#currentStatus === status) return;
    this.#currentStatus = status;
    if (status === 'connected') this.#init.pace.connected();
    this.#events.emit('status', status);
  }
}
