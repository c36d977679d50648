import type { Bus, StreamConsumer } from '../../shared/bus/bus.js';
import { bucketStream, buckets, nodeOfInbox } from '../../shared/bus/subjects.js';
import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { NodeName } from '../../shared/routing/names.js';

/** Of one node in one stream, with a reader. An agent has a few. */
const maxOfNode = 16;
/**
 * Of one node in one stream, without a reader: what a killed agent leaves for half a minute. A node can name the inbox of
 * another one, but not the subject on which that one listens, so what it makes there has no reader.
 */
const maxUnreadOfNode = 4;
/** An agent asks for 30 s. A consumer that stays for longer without a reader is no agent's. */
const longestIdleMs = 60_000;
/** This many new ones begin a sweep: a hundred agents that connect at the same time make fewer. */
const manyCreated = 512;
/** What the server is asked to remove at the same time. */
const removedAtOnce = 256;

const streams = [buckets.rules, buckets.registry].map(bucketStream);

/** The server tells each new consumer of these streams there. */
export const consumerCreatedSubjects = streams.map((stream) => `$JS.EVENT.ADVISORY.CONSUMER.CREATED.${stream}.*`);

type StaleInit = {
  /** Where this process gets what it reads; no node knows it. */
  readonly ownInboxPrefix: string;
  readonly isMember: (node: NodeName) => boolean;
};

/**
 * The consumers that are to go: those of no node of the mesh, those that outlive their reader, and what a node has beyond
 * {@link maxOfNode} and {@link maxUnreadOfNode}, the oldest first. The server lets each node make as many as it likes, and a
 * stream with too many refuses all others.
 */
export function staleConsumers(
  consumers: readonly StreamConsumer[],
  { ownInboxPrefix, isMember }: StaleInit,
): StreamConsumer[] {
  const stale: StreamConsumer[] = [];
  const ofNodes = new Map<NodeName, StreamConsumer[]>();
  for (const consumer of consumers) {
    const { deliverSubject, idleMs } = consumer;
    if (deliverSubject?.startsWith(`${ownInboxPrefix}.`) === true) continue;
    const node = deliverSubject === null ? undefined : nodeOfInbox(deliverSubject);
    if (node === undefined || !isMember(node) || idleMs === null || idleMs > longestIdleMs) stale.push(consumer);
    else {
      const others = ofNodes.get(node);
      if (others === undefined) ofNodes.set(node, [consumer]);
      else others.push(consumer);
    }
  }
  for (const ofNode of ofNodes.values()) {
    const newestFirst = ofNode.sort((a, b) => b.createdMs - a.createdMs);
    stale.push(...newestFirst.filter(({ hasReader }) => hasReader).slice(maxOfNode));
    stale.push(...newestFirst.filter(({ hasReader }) => !hasReader).slice(maxUnreadOfNode));
  }
  return stale;
}

/** Removes {@link staleConsumers} from the buckets that agents may read: when the owner asks, and when many are made. */
export class ConsumerSweep implements Disposable {
  readonly #bus: Pick<Bus, 'status' | 'inboxPrefix' | 'observe' | 'consumersOf' | 'removeConsumer'>;
  readonly #isMember: (node: NodeName) => boolean;
  readonly #log: Log;
  readonly #stops: readonly (() => void)[];
  /** Since the streams were read last. */
  #created = 0;
  /** That stayed then. */
  #kept = 0;
  #running: Promise<void> | null = null;
  #isOver = false;

  constructor(init: {
    readonly bus: Pick<Bus, 'status' | 'inboxPrefix' | 'observe' | 'consumersOf' | 'removeConsumer'>;
    readonly isMember: (node: NodeName) => boolean;
    readonly log: Log;
  }) {
    this.#bus = init.bus;
    this.#isMember = init.isMember;
    this.#log = init.log;
    this.#stops = consumerCreatedSubjects.map((subject) => this.#bus.observe(subject, () => this.#noteCreated()));
  }

  /** Never rejects. A call during another one waits for that one. */
  sweep(): Promise<void> {
    this.#running ??= this.#sweep().finally(() => {
      this.#running = null;
      this.#sweepIfMany();
    });
    return this.#running;
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    for (const stop of this.#stops) stop();
  }

  #noteCreated(): void {
    this.#created += 1;
    this.#sweepIfMany();
  }

  /** In a large mesh, agents that come back together make many: reading them costs more there. */
  #sweepIfMany(): void {
    if (this.#isOver || this.#running !== null) return;
    if (this.#created >= Math.max(manyCreated, this.#kept / 2)) void this.sweep();
  }

  async #sweep(): Promise<void> {
    this.#created = 0;
    if (this.#bus.status !== 'connected') return;
    let kept = 0;
    for (const stream of streams) kept += await this.#sweepStream(stream);
    this.#kept = kept;
  }

  /** How many stay. */
  async #sweepStream(stream: string): Promise<number> {
    const [bus, log] = [this.#bus, this.#log];
    try {
      const consumers = await bus.consumersOf(stream);
      const stale = staleConsumers(consumers, { ownInboxPrefix: bus.inboxPrefix, isMember: this.#isMember });
      for (let from = 0; from < stale.length && !this.#isOver; from += removedAtOnce) {
        const together = stale.slice(from, from + removedAtOnce);
        await Promise.all(together.map(({ name }) => bus.removeConsumer(stream, name)));
      }
      const [first] = stale;
      if (first !== undefined) {
        log.warn({ stream, removed: stale.length, of: first.deliverSubject }, 'removed consumers that no agent needs');
      }
      return consumers.length - stale.length;
    } catch (error) {
      log.debug({ stream, problem: describeError(error) }, 'cannot look at the consumers of a stream');
      return 0;
    }
  }
}
