import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { z } from 'zod';
import { CulvertError, describeError } from '../../shared/errors.js';
import { caseIds } from './case-ids.js';

/** Values for the placeholders in double braces in an adapter's texts. */
export const adapterPlaceholders = [
  /** This side's own directory, which contains its `files`. */
  'dir',
  'listenHost',
  'listenPort',
  'targetHost',
  'targetPort',
  /** Threads or processes that may move bytes: as many as each agent has. */
  'workers',
  /** Connections that each side can relay within the limit of open descriptors, and that limit. */
  'maxConnections',
  'maxDescriptors',
  /** Paths of PEM files. All paths use the same CA and the same kind of key (ECDSA P-256). */
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
  /** `mutual`: both sides present a certificate and verify the peer's. Only these can be the best comparator. */
  tls: z.enum(['mutual', 'none']),
  program: z.strictObject({
    command: z.string().min(1),
    /** Debian packages that contain it. Without any, it runs only where it is already installed. */
    packages: z.array(z.string().min(1)).default([]),
    /** A file that must also exist. */
    file: z.string().startsWith('/').optional(),
  }),
  /** The only cases that it runs in. Default: all. */
  cases: z.array(z.enum(caseIds)).optional(),
  /** Cases that it does not run in, with the reason for the report. */
  without: z.partialRecord(z.enum(caseIds), z.string().min(1)).default({}),
  /** In the client's namespace: accepts plaintext connections and forwards them to the other side. */
  client: side,
  /** In the server's namespace: accepts them from the client's side and forwards them as plaintext to the application. */
  server: side,
});
/** A pair of proxies to compare with the mesh. */
export type Adapter = z.infer<typeof adapterSchema>;
export type AdapterSide = Adapter['client'];

/** Reads an adapter file. Throws `BENCH_ADAPTER`, which lists every problem. */
export function readAdapter(file: string): Adapter {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw adapterError(file, [describeError(error)]);
  }
  return parseAdapter(text, file);
}

/** `origin` names the text in errors. Throws `BENCH_ADAPTER`, which lists every problem. */
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
    message: `${origin} is not a valid adapter: ${problems.join('; ')}.`,
    hint: `look at test/bench/adapters; placeholders: ${adapterPlaceholders.join(', ')}`,
  });
}
