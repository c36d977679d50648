import { z } from 'zod';
import { atOnce } from '../in-turns.js';
import type { Snapshot } from '../policy/snapshot.js';
import { ignorableFields, type PassedOver } from './snapshot-schema.js';

/**
 * A snapshot as text: one line of JSON with all fields that are not lists and the length of each list, then one line per
 * list entry. Two revisions differ in few lines, so reading the next one is fast ({@link SnapshotReader}), and unchanged
 * entries are the same objects in both.
 */
const headSchema = z.strictObject({
  fields: z.record(z.string(), z.unknown()),
  lists: z.record(z.string(), z.int().nonnegative()),
  /** Paths of fields that a reader may pass over where it does not know them. */
  ignorable: z.array(z.string()).readonly().exactOptional(),
});

/** Cached lines of list entries, which are immutable. */
const linesOf = new WeakMap<object, string>();

export function writeSnapshot(snapshot: Snapshot, ignorable: readonly string[] = ignorableFields): string {
  return atOnce(writingSnapshot(snapshot, ignorable));
}

/** {@link writeSnapshot} in steps, one per entry. Afterwards `writeSnapshot` of the same entries only joins cached lines. */
export function* writingSnapshot(snapshot: Snapshot, ignorable = ignorableFields): Generator<void, string> {
  const fields: Record<string, unknown> = {};
  const lists: Record<string, number> = {};
  const lines: string[] = [];
  for (const [name, value] of Object.entries(snapshot)) {
    if (Array.isArray(value)) {
      lists[name] = value.length;
      for (const entry of value) {
        lines.push(lineOf(entry as object));
        yield;
      }
    } else fields[name] = value;
  }
  // Only what is there: a snapshot without such a field is the same text as before there was one.
  const stated = ignorable.filter((path) => Object.hasOwn(snapshot, path.split('.', 1)[0] ?? ''));
  const head = { fields, lists, ...(stated.length === 0 ? {} : { ignorable: stated }) };
  return [JSON.stringify(head), ...lines].join('\n');
}

function lineOf(entry: object): string {
  const known = linesOf.get(entry);
  if (known !== undefined) return known;
  const line = JSON.stringify(entry);
  linesOf.set(entry, line);
  return line;
}

type Check = (snapshot: unknown, ignorable: readonly string[], onPassedOver: (field: PassedOver) => void) => Snapshot;
type KnownEntries = ReadonlyMap<string, unknown>;

/** Reads successive snapshots and reuses the entries of the last one. */
export class SnapshotReader {
  readonly #check: Check;
  /** By list and line. */
  #known: ReadonlyMap<string, KnownEntries> = new Map();
  /** By line. */
  #passedOver = new Map<string, readonly string[]>();
  #passedOverAtRoot: string[] = [];

  /** `check` validates a snapshot with only the entries that were not in the last one; its errors propagate. */
  constructor({ check }: { readonly check: Check }) {
    this.#check = check;
  }

  /** Fields of the last snapshot that this version does not know and that it says may be passed over, by name. */
  get passedOver(): readonly string[] {
    return [...new Set([...this.#passedOverAtRoot, ...[...this.#passedOver.values()].flat()])].toSorted();
  }

  /** Throws errors of `JSON.parse` and `check`, and an Error when the number of lines is wrong. */
  read(text: string): Snapshot {
    const lines = text.split('\n');
    const { fields, lists, ignorable = [] } = headSchema.parse(JSON.parse(lines[0] ?? ''));
    const sections = new Map<string, readonly string[]>();
    let next = 1;
    for (const [name, length] of Object.entries(lists)) {
      sections.set(name, lines.slice(next, next + length));
      next += length;
    }
    if (next !== lines.length) throw new Error(`the snapshot has ${lines.length} lines, but its head declares ${next}`);
    const fresh = [...sections].map(([name, section]) => [name, this.#freshLines(name, section)] as const);
    const parsed = fresh.map(([name, texts]) => [name, texts.map((line): unknown => JSON.parse(line))] as const);
    const passedOver: PassedOver[] = [];
    const all = { ...fields, ...Object.fromEntries(parsed) };
    const checked = this.#check(all, ignorable, (field) => passedOver.push(field));
    // A list that is passed over is not among what was checked.
    for (const name of sections.keys()) if (!Object.hasOwn(checked, name)) sections.delete(name);

    const known = new Map<string, KnownEntries>();
    for (const [name, texts] of fresh) {
      if (!sections.has(name)) continue;
      const entries = (checked as Partial<Record<string, unknown>>)[name] as readonly unknown[];
      const added = new Map(texts.map((line, index) => [line, entries[index]]));
      const before = this.#known.get(name);
      const all = (sections.get(name) ?? []).map((line) => [line, added.get(line) ?? before?.get(line)] as const);
      known.set(name, new Map(all));
    }
    this.#notePassedOver(passedOver, { fresh: new Map(fresh), sections });
    this.#known = known;
    const whole = [...sections].map(([name, section]) => [name, section.map((line) => known.get(name)?.get(line))]);
    return { ...checked, ...(Object.fromEntries(whole) as Partial<Snapshot>) };
  }

  /** What was not new was checked before. */
  #notePassedOver(
    fields: readonly PassedOver[],
    o: {
      readonly fresh: ReadonlyMap<string, readonly string[]>;
      readonly sections: ReadonlyMap<string, readonly string[]>;
    },
  ): void {
    const ofLines = new Map<string, string[]>();
    this.#passedOverAtRoot = [];
    for (const { path, name } of fields) {
      const [list, at] = path;
      const line = typeof at === 'number' ? o.fresh.get(String(list))?.[at] : undefined;
      if (line === undefined) this.#passedOverAtRoot.push(name);
      else ofLines.set(line, [...(ofLines.get(line) ?? []), name]);
    }
    const before = this.#passedOver;
    this.#passedOver = new Map();
    if (ofLines.size + before.size === 0) return;
    for (const line of [...o.sections.values()].flat()) {
      const names = ofLines.get(line) ?? before.get(line);
      if (names !== undefined) this.#passedOver.set(line, names);
    }
  }

  #freshLines(name: string, section: readonly string[]): string[] {
    const before = this.#known.get(name);
    return before === undefined ? [...section] : section.filter((line) => !before.has(line));
  }
}
