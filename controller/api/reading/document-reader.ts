import { Worker } from 'node:worker_threads';
import { CulvertError } from '../../../shared/errors.js';
import { inTurns } from '../../../shared/in-turns.js';
import type { Log } from '../../../shared/log.js';
import { SerialQueue } from '../../../shared/serial-queue.js';
import type { Problem } from '../../resources/kinds/problem.js';
import { resourceKey } from '../../resources/kinds/resource-key.js';
import type { Resource } from '../../resources/kinds/resource.js';
import { documentChunks } from '../../resources/parse/document-chunks.js';
import {
  parsingDocuments,
  type ParsedDocuments,
  type ResourceLocation,
} from '../../resources/parse/parse-documents.js';
import { readApplyBody, type ApplyBody } from './apply-body.js';
import type { Place, ReadingAnswer, ReadingQuestion, ReadResource } from './reading-messages.js';

/** A body of this size is read here, and its documents too when each can be read in a few milliseconds. */
const maxBodyHere = 64 * 1024;
const maxDocumentHere = 6 * 1024;
/** From when the thread begins to read. What is within the limits takes a fraction of it. */
const deadlineMs = 30_000;
/** Bodies that wait for the thread; each is up to 40 MiB. */
const maxWaiting = 8;
/** A thread without work is ended: it takes tens of megabytes. */
const idleMs = 10 * 60_000;
const threadMegabytes = 1024;

/** The documents of an apply, read. */
export type ReadApply = Pick<ApplyBody, 'dryRun' | 'message'> & {
  readonly parsed: ParsedDocuments;
  /** The same problems with their lines in the text, where these are known. */
  readonly withLines: (problems: readonly Problem[]) => Promise<readonly Problem[]>;
};

type Thread = { readonly worker: Worker; readonly ended: Promise<never> };

/**
 * Reads the bodies of applies: small ones at once, others in a thread, one after the other. So the event loop answers
 * other requests, whatever an editor sends. The thread is ended when it takes too long.
 */
export class DocumentReader implements AsyncDisposable {
  readonly #log: Log;
  readonly #deadlineMs: number;
  readonly #threadMegabytes: number;
  readonly #queue = new SerialQueue();
  #waiting = 0;
  #thread: Thread | null = null;
  #idle: NodeJS.Timeout | undefined;
  #lastId = 0;

  /** `deadlineMs`, `threadMegabytes`: for tests. */
  constructor(init: { readonly log: Log; readonly deadlineMs?: number; readonly threadMegabytes?: number }) {
    this.#log = init.log;
    this.#deadlineMs = init.deadlineMs ?? deadlineMs;
    this.#threadMegabytes = init.threadMegabytes ?? threadMegabytes;
  }

  /** Errors: `BAD_REQUEST`, `DOCUMENTS_TOO_SLOW`, `DOCUMENTS_TOO_LARGE`, `READER_BUSY`. */
  async read(body: Buffer): Promise<ReadApply> {
    const small = body.length > maxBodyHere ? undefined : readApplyBody(body);
    if (small !== undefined && isQuick(small.documents)) {
      const parsed = await inTurns(parsingDocuments(small.documents));
      return { ...small, parsed, withLines: (problems) => Promise.resolve(problems) };
    }
    const id = ++this.#lastId;
    const read = await this.#inThread((thread) => this.#readIn(thread, id, body));
    return { ...read, withLines: (problems) => this.#addLines(id, problems) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#idle);
    await this.#end();
  }

  async #readIn(thread: Thread, id: number, body: Buffer): Promise<Omit<ReadApply, 'withLines'>> {
    const bytes = new Uint8Array(body);
    const { dryRun, message, problems } = await ask<'read'>(thread, { type: 'read', id, body: bytes });
    const resources: Resource[] = [];
    const locations = new Map<string, ResourceLocation>();
    for (let isLast = false; !isLast;) {
      const part = await ask<'more'>(thread, { type: 'more', id });
      isLast = part.isLast;
      for (const [document, resource] of JSON.parse(new TextDecoder().decode(part.json)) as ReadResource[]) {
        resources.push(resource);
        // Lines are asked for when there is a problem.
        locations.set(resourceKey(resource), { fileName: null, document, lineOf: () => null });
      }
    }
    return { dryRun, message, parsed: { resources, problems, locations } };
  }

  async #addLines(id: number, problems: readonly Problem[]): Promise<readonly Problem[]> {
    const open = problems.filter(
      ({ document, line, resource }) => document !== null && line === null && resource !== null,
    );
    if (open.length === 0) return problems;
    const places = open.map(({ resource, path }): Place => ({ resource: resource ?? '', path }));
    try {
      const { lines } = await this.#inThread((thread) => ask<'lines'>(thread, { type: 'lines', id, places }));
      const found = new Map(open.map((problem, index) => [problem, lines[index] ?? null]));
      return problems.map((problem) => ({ ...problem, line: found.get(problem) ?? problem.line }));
    } catch (error) {
      this.#log.debug({ err: error }, 'the lines of problems are not known');
      return problems;
    }
  }

  /** Runs a task with the thread when those before it have ended. */
  async #inThread<T>(task: (thread: Thread) => Promise<T>): Promise<T> {
    if (this.#waiting >= maxWaiting) throw busy();
    this.#waiting++;
    try {
      return await this.#queue.run(() => this.#withDeadline(task));
    } finally {
      this.#waiting--;
    }
  }

  async #withDeadline<T>(task: (thread: Thread) => Promise<T>): Promise<T> {
    clearTimeout(this.#idle);
    const thread = (this.#thread ??= this.#start());
    let timer: NodeJS.Timeout | undefined;
    let refusal: CulvertError;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(tooSlow(this.#deadlineMs)), this.#deadlineMs);
    });
    try {
      const outcome = await Promise.race([outcomeOf(task(thread)), late, thread.ended]);
      if ('value' in outcome) return outcome.value;
      // The thread answered, and waits for the next question.
      refusal = outcome.refusal;
    } catch (error) {
      // The thread computes, or is gone; its next answer would be to an old question.
      await this.#end();
      throw error;
    } finally {
      clearTimeout(timer);
      this.#idle = setTimeout(() => void this.#end(), idleMs);
      this.#idle.unref();
    }
    throw refusal;
  }

  #start(): Thread {
    const worker = new Worker(new URL('./reading-thread.js', import.meta.url), {
      name: 'culvert-reading',
      resourceLimits: { maxOldGenerationSizeMb: this.#threadMegabytes },
    });
    worker.unref();
    const ended = new Promise<never>((_, reject) => {
      const forget = (error: unknown): void => {
        // Also between two readings: the next one starts another.
        if (this.#thread?.worker === worker) this.#thread = null;
        reject(error);
      };
      worker.once('error', (error: NodeJS.ErrnoException) => {
        forget(error.code === 'ERR_WORKER_OUT_OF_MEMORY' ? tooLarge(this.#threadMegabytes) : error);
      });
      worker.once('exit', () => forget(new Error('the thread that reads documents has ended')));
    });
    ended.catch(() => undefined);
    return { worker, ended };
  }

  async #end(): Promise<void> {
    const thread = this.#thread;
    this.#thread = null;
    await thread?.worker.terminate();
  }
}

/** What a thread made of a task: a refusal is an answer too. */
type Outcome<T> = { readonly value: T } | { readonly refusal: CulvertError };

async function outcomeOf<T>(task: Promise<T>): Promise<Outcome<T>> {
  try {
    return { value: await task };
  } catch (error) {
    if (error instanceof CulvertError) return { refusal: error };
    throw error;
  }
}

type AnswerTo<T> = Extract<ReadingAnswer, { readonly type: T }>;

/** The thread answers one question before it is asked the next. */
function ask<T extends ReadingQuestion['type']>(
  { worker }: Thread,
  question: Extract<ReadingQuestion, { readonly type: T }>,
): Promise<AnswerTo<T>> {
  return new Promise((resolve, reject) => {
    worker.once('message', (answer: ReadingAnswer) => {
      if (answer.type !== 'refused') return resolve(answer as AnswerTo<T>);
      const { code, message, hint } = answer;
      reject(new CulvertError({ code, message, ...(hint === null ? {} : { hint }) }));
    });
    worker.postMessage(question, 'body' in question ? [question.body.buffer as ArrayBuffer] : []);
  });
}

function isQuick(documents: string): boolean {
  for (const { text } of documentChunks(documents)) if (text.length > maxDocumentHere) return false;
  return true;
}

function tooSlow(ms: number): CulvertError {
  return new CulvertError({
    code: 'DOCUMENTS_TOO_SLOW',
    message: `the documents could not be read within ${ms / 1000} s; nothing was changed`,
    hint: 'apply them in several parts, and look for one that is unusually large',
  });
}

function tooLarge(megabytes: number): CulvertError {
  return new CulvertError({
    code: 'DOCUMENTS_TOO_LARGE',
    message: `the documents take more than ${megabytes} MiB to read; nothing was changed`,
    hint: 'apply them in several parts',
  });
}

function busy(): CulvertError {
  return new CulvertError({
    code: 'READER_BUSY',
    message: 'the controller is reading other large documents; nothing was changed',
    hint: 'apply them again in a minute',
  });
}
