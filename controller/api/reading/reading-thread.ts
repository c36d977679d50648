import { parentPort } from 'node:worker_threads';
import { CulvertError } from '../../../shared/errors.js';
import { parsePath } from '../../resources/kinds/problem.js';
import { formatResourceId, resourceId, resourceKey } from '../../resources/kinds/resource-key.js';
import { parseDocuments, type ParsedDocuments, type ResourceLocation } from '../../resources/parse/parse-documents.js';
import { readApplyBody } from './apply-body.js';
import type { Place, ReadingAnswer, ReadingQuestion, ReadResource } from './reading-messages.js';

/**
 * Entry of the thread that reads large documents, so that the event loop of the controller goes on. It is ended from
 * outside when it takes too long, so it may block.
 */
const port = parentPort;
if (port === null) throw new Error('this module is the entry of a worker thread');

/** JSON of one message takes the other side a few milliseconds to read. */
const partLength = 128 * 1024;
/** What was read last is kept for questions about lines. */
const maxKept = 4;

type Kept = { readonly parts: Iterator<string>; next: string | undefined; readonly parsed: ParsedDocuments };

const kept = new Map<number, Kept>();

port.on('message', (question: ReadingQuestion) => {
  const answer = answerTo(question);
  port.postMessage(answer, answer.type === 'more' ? [answer.json.buffer as ArrayBuffer] : []);
});

function answerTo(question: ReadingQuestion): ReadingAnswer {
  try {
    switch (question.type) {
      case 'read':
        return read(question.id, question.body);
      case 'more':
        return more(question.id);
      case 'lines':
        return { type: 'lines', lines: linesOf(question.id, question.places) };
    }
  } catch (error) {
    if (!(error instanceof CulvertError)) throw error;
    const { code, message, hint = null } = error;
    return { type: 'refused', code, message, hint };
  }
}

function read(id: number, body: Uint8Array): ReadingAnswer {
  const { documents, dryRun, message } = readApplyBody(Buffer.from(body.buffer, body.byteOffset, body.byteLength));
  const parsed = parseDocuments(documents);
  const parts = partsOf(parsed);
  kept.set(id, { parts, next: take(parts), parsed });
  const [oldest] = kept.keys();
  if (kept.size > maxKept && oldest !== undefined) kept.delete(oldest);
  return { type: 'read', dryRun, message, problems: parsed.problems };
}

function more(id: number): ReadingAnswer {
  const reading = kept.get(id);
  const json = new TextEncoder().encode(reading?.next ?? '[]');
  const next = reading === undefined ? undefined : take(reading.parts);
  if (reading !== undefined) reading.next = next;
  return { type: 'more', json, isLast: next === undefined };
}

function take(parts: Iterator<string>): string | undefined {
  const part = parts.next();
  return part.done === true ? undefined : part.value;
}

function* partsOf({ resources, locations }: ParsedDocuments): Generator<string> {
  let texts: string[] = [];
  let length = 0;
  for (const resource of resources) {
    const document = locations.get(resourceKey(resource))?.document ?? 0;
    const text = JSON.stringify([document, resource] satisfies ReadResource);
    texts.push(text);
    length += text.length;
    if (length < partLength) continue;
    yield `[${texts.join(',')}]`;
    [texts, length] = [[], 0];
  }
  if (texts.length > 0) yield `[${texts.join(',')}]`;
}

function linesOf(id: number, places: readonly Place[]): (number | null)[] {
  const parsed = kept.get(id)?.parsed;
  if (parsed === undefined) return places.map(() => null);
  const byName = new Map<string, ResourceLocation | undefined>();
  for (const resource of parsed.resources) {
    byName.set(formatResourceId(resourceId(resource)), parsed.locations.get(resourceKey(resource)));
  }
  return places.map(({ resource, path }) => byName.get(resource)?.lineOf(parsePath(path)) ?? null);
}
