import { randomInt, randomUUID } from 'node:crypto';
import type { NatsConnection } from 'nats';
import { z } from 'zod';
import { busError } from './bus-error.js';
import { consumerNamesOf, consumersOfNode } from './subjects.js';

const consumerNotFound = 10014;
const streamNotFound = 10059;
const timeoutMs = 5000;

const infoReplySchema = z.union([
  z.object({ error: z.object({ err_code: z.number().optional(), description: z.string() }) }),
  z.object({ push_bound: z.boolean().default(false) }),
]);
const deleteReplySchema = z.object({
  error: z.object({ err_code: z.number().optional(), description: z.string() }).exactOptional(),
});

/** A name that is in use until `release`. */
export type ConsumerName = {
  readonly name: string;
  /** On which it is made, for messages on the subjects of `filter`. */
  readonly createSubject: (filter: string) => string;
  /** Not to be called twice. */
  readonly release: () => void;
};

/**
 * The names under which one connection makes consumers. A node may use only {@link consumersOfNode} names in a stream, and two
 * processes of it may be connected at the same time: one that takes over and the one before.
 */
export class ConsumerNames {
  readonly #connection: NatsConnection;
  readonly #prefix: () => string | null;
  readonly #used = new Set<string>();
  /** Where to look first, so that two processes seldom look at the same name. */
  readonly #first = randomInt(consumersOfNode);

  /** `prefix`: what the credential of the connection allows now; null: any name. */
  constructor(init: { readonly connection: NatsConnection; readonly prefix: () => string | null }) {
    this.#connection = init.connection;
    this.#prefix = init.prefix;
  }

  /**
   * A name with which nothing reads the stream. What an earlier process left under it is removed. Errors: `BUS_FAILED` when
   * all are in use, and those of a request.
   */
  async take(stream: string): Promise<ConsumerName> {
    const prefix = this.#prefix();
    if (prefix === null) return anyName(stream);
    const names = consumerNamesOf(prefix);
    for (const name of [...names.slice(this.#first), ...names.slice(0, this.#first)]) {
      const key = `${stream} ${name}`;
      if (this.#used.has(key)) continue;
      this.#used.add(key);
      const release = (): void => void this.#used.delete(key);
      try {
        if (await this.#isFree(stream, name))
          return { name, createSubject: () => createSubjectOf(stream, name), release };
      } catch (error) {
        release();
        throw error;
      }
      release();
    }
    throw busError(
      'BUS_FAILED',
      `cannot follow the stream ${stream}: all ${names.length} names of this node are in use`,
    );
  }

  async #isFree(stream: string, name: string): Promise<boolean> {
    const info = infoReplySchema.parse(await this.#ask(`INFO.${stream}.${name}`));
    if ('error' in info) {
      if (info.error.err_code === consumerNotFound) return true;
      const code = info.error.err_code === streamNotFound ? 'BUS_NOT_FOUND' : 'BUS_FAILED';
      throw busError(code, `cannot look at the consumer ${name} of ${stream}: ${info.error.description}`);
    }
    if (info.push_bound) return false;
    const { error } = deleteReplySchema.parse(await this.#ask(`DELETE.${stream}.${name}`));
    if (error === undefined || error.err_code === consumerNotFound) return true;
    throw busError('BUS_FAILED', `cannot remove the consumer ${name} of ${stream}: ${error.description}`);
  }

  async #ask(what: string): Promise<unknown> {
    const reply = await this.#connection.request(`$JS.API.CONSUMER.${what}`, '', { timeout: timeoutMs });
    return JSON.parse(reply.string());
  }
}

/** A credential that allows any name may restrict the filter, which has to be in the subject then. */
function anyName(stream: string): ConsumerName {
  const name = `feed-${randomUUID()}`;
  return {
    name,
    createSubject: (filter) => `${createSubjectOf(stream, name)}.${filter}`,
    release: () => undefined,
  };
}

function createSubjectOf(stream: string, name: string): string {
  return `$JS.API.CONSUMER.CREATE.${stream}.${name}`;
}
