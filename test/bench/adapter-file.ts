import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { z } from 'zod';
import { CulvertError, describeError } from '../../shared/errors.js';
import { caseIds } from './case-ids.js';

/** What a text of an adapter may name between double braces, and what stands there then. */
export const adapterPlaceholders = [
  /** A directory of this side's own, with its `files` in it. */
  'dir',
  'listenHost',
  'listenPort',
  'targetHost',
  'targetPort',
  /** How many threads or processes may move bytes: as many as each agent has. */
  'workers',
  /** What the limit of open descriptors lets each side relay at the same time, and that limit. */
  'maxConnections',
  'maxDescriptors',
  /** Paths of PEM files. The same CA and the same kind of key (ECDSA P-256) for everybody. */
  'ca',
  'certificate',
  'key',
  'certificateAndKey',
  /** The name in the certificates of both sides. */
  'serverName',
] as const;
export type AdapterValues = Readonly<Record<(typeof adapterPlaceholders)[number], string>>;

const side = z.strictObject({
  /** Runs in the foreground and ends at SIGTERM. */
  command: z.array(z.string().min(1)).min(1),
  files: z.record(z.string().regex(/^[\w][\w.-]*$/, 'a file name without a path'), z.string()).default({}),
});

const adapterSchema = z.strictObject({
  name: z.string().regex(/^[a-z][a-z0-9-]{0,30}$/, 'lower-case letters, digits and dashes'),
  title: z.string().min(1).max(40),
  /** `mutual`: both sides show a certificate and verify the other's. Only these count as the best comparator. */
  tls: z.enum(['mutual', 'none']),
  program: z.strictObject({
    command: z.string().min(1),
    /** Debian packages that bring it; without any it takes part only where it is installed already. */
    packages: z.array(z.string().min(1)).default([]),
    /** A file that must be there too. */
    file: z.string().startsWith('/').optional(),
  }),
  /** The only cases that it takes part in; all unless told. */
  cases: z.array(z.enum(caseIds)).optional(),
  /** Cases that it does not take part in, with the reason that the report gives. */
  without: z.partialRecord(z.enum(caseIds), z.string().min(1)).default({}),
  /** In the client's namespace: takes connections in the clear and carries them to the other side. */
  client: side,
  /** In the server's namespace: takes them from the client's side and carries them to the application in the clear. */
  server: side,
});
/** A pair of proxies that is measured beside the mesh. */
export type Adapter = z.infer<typeof adapterSchema>;
export type AdapterSide = Adapter['client'];

/** Reads a file of test/bench/adapters or of a person. Throws `BENCH_ADAPTER` with every problem that it has. */
export function readAdapter(file: string): Adapter {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw adapterError(file, [describeError(error)]);
  }
  return parseAdapter(text, file);
}

/** `origin` is what an error calls the text. Throws `BENCH_ADAPTER` with every problem that it has. */
export function parseAdapter(text: string, origin: string): Adapter {
  let document: unknown;
  try {
    document = parse(text);
  } catch (error) {
    throw adapterError(origin, [describeError(error)]);
  }
  const parsed = adapterSchema.safeParse(document);
  if (!parsed.success) {
    throw adapterError(
      origin,
      parsed.error.issues.map(({ path, message }) => `${path.join('.') || 'document'}: ${message}`),
    );
  }
  const problems = (['client', 'server'] as const).flatMap((name) =>
    unknownPlaceholders(parsed.data[name]).map((placeholder) => `${name}: nothing is called {{${placeholder}}}`),
  );
  if (problems.length > 0) throw adapterError(origin, problems);
  return parsed.data;
}

/** The same text with every placeholder replaced. */
export function fillPlaceholders(text: string, values: AdapterValues): string {
  return text.replaceAll(placeholderPattern, (_, name: string) => values[name as keyof AdapterValues]);
}

const placeholderPattern = /\{\{(\w+)\}\}/g;

function unknownPlaceholders({ command, files }: AdapterSide): string[] {
  const names = [...command, ...Object.values(files)].flatMap((text) =>
    [...text.matchAll(placeholderPattern)].map((match) => match[1] ?? ''),
  );
  return [...new Set(names)].filter((name) => !(adapterPlaceholders as readonly string[]).includes(name));
}

function adapterError(origin: string, problems: readonly string[]): CulvertError {
  return new CulvertError({
    code: 'BENCH_ADAPTER',
    message: `${origin} is no adapter: ${problems.join('; ')}.`,
    hint: `look at test/bench/adapters; placeholders: ${adapterPlaceholders.join(', ')}`,
  });
}
