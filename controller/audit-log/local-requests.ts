import { randomBytes } from 'node:crypto';
import { readdir, rename, rm } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import type { Log } from '../../shared/log.js';
import { readPrivateFile, writePrivateFile } from '../../shared/private-file.js';
import { auditFactsSchema, decodeLine, type AuditAction, type AuditDetail } from './audit-entry.js';
import type { AuditLog } from './audit-log.js';

const localRequestSchema = auditFactsSchema
  .pick({ user: true, action: true, result: true, code: true, detail: true })
  // Files of earlier versions have none.
  .extend({ command: z.string().optional() });
type LocalRequest = z.infer<typeof localRequestSchema>;

/** Milliseconds since the epoch, the order within a command, and what makes the name unique. */
const fileName = /^(\d{1,15})-\d+-[0-9a-f]+\.json$/;
/** A crash between a line and the removal of its file leaves the line among these, the newest. */
const maxLinesSearched = 10_000;
/** Commands whose end can still come. */
const maxOpen = 1000;

type Known = {
  /** By command: the line with which it began. */
  readonly begun: Map<string, number>;
  /** Files that have a line already. */
  readonly files: Set<string>;
};

/** Where the audit log of a state directory is. */
export function auditDirectory(stateDir: string): string {
  return join(stateDir, 'audit');
}

export type LocalCommand = { readonly action: AuditAction; readonly detail?: AuditDetail };

/**
 * Commands on the controller's host, which the audit log of a running controller cannot be written by. Each leaves a file, on
 * disk before anything is done, which the controller takes into its log at its next start or within a minute.
 */
export class LocalRequests {
  readonly #directory: string;
  /** Null: the log was not searched yet. */
  #known: Known | null = null;

  constructor({ directory }: { readonly directory: string }) {
    this.#directory = join(directory, 'local');
  }

  /** Runs a task whose beginning and end are in the log. Errors: `STATE_WRITE`: nothing was done; and those of the task. */
  async audited<T>({ action, detail = {} }: LocalCommand, task: () => Promise<T>): Promise<T> {
    const command = randomBytes(8).toString('hex');
    const write = (result: LocalRequest['result'], code: string | null): Promise<void> =>
      this.#write({ user: userName(), action, result, code, detail, command });
    await write('begun', null);
    try {
      const value = await task();
      await write('done', null);
      return value;
    } catch (error) {
      await write('failed', codeOf(error)).catch(() => undefined);
      throw error;
    }
  }

  /** Moves what commands left into the log. */
  async takeInto(auditLog: Pick<AuditLog, 'append' | 'lines' | 'head'>, log: Log): Promise<void> {
    const names = (await readdir(this.#directory).catch(() => [])).filter((name) => name.endsWith('.json')).sort();
    if (names.length === 0) return;
    const { begun, files } = (this.#known ??= await knownTo(auditLog));
    for (const name of names) {
      const path = join(this.#directory, name);
      const request = await readRequest(path);
      const at = timeOf(name);
      if (request === null || at === null) {
        log.error({ path }, 'what a local command did cannot be read and is not in the audit log; it was moved aside');
        await rename(path, `${path}.unreadable`);
        continue;
      }
      if (!files.has(name)) {
        const { detail, command = name, ...facts } = request;
        const of = facts.result === 'begun' ? null : (begun.get(command) ?? null);
        const more = { at, command, file: name };
        const { seq } = await auditLog.append({
          ...facts,
          source: 'local',
          target: null,
          of,
          detail: { ...detail, ...more },
        });
        files.add(name);
        if (facts.result === 'begun') begun.set(command, seq);
        else begun.delete(command);
      }
      await rm(path, { force: true });
      files.delete(name);
    }
    const [oldest] = begun.keys();
    if (begun.size > maxOpen && oldest !== undefined) begun.delete(oldest);
  }

  async #write(request: LocalRequest): Promise<void> {
    const name = `${Date.now()}-${process.hrtime.bigint()}-${randomBytes(4).toString('hex')}.json`;
    await writePrivateFile(join(this.#directory, name), JSON.stringify(request));
  }
}

/** What the newest lines say of local commands, for those that a crash of the controller interrupted. */
async function knownTo(auditLog: Pick<AuditLog, 'lines' | 'head'>): Promise<Known> {
  const known: Known = { begun: new Map(), files: new Set() };
  for await (const text of auditLog.lines(Math.max(0, auditLog.head.seq - maxLinesSearched))) {
    if (!text.includes('"source":"local"')) continue;
    const { entry } = decodeLine(text);
    const { command, file } = entry?.detail ?? {};
    if (entry === null || typeof command !== 'string' || typeof file !== 'string') continue;
    known.files.add(file);
    if (entry.result === 'begun') known.begun.set(command, entry.seq);
    else known.begun.delete(command);
  }
  return known;
}

/** A container may run as a user that has no name. */
function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid ${String(process.getuid?.())}`;
  }
}

/** RFC 3339. Null: the name is not one that a command gives. */
function timeOf(name: string): string | null {
  const at = new Date(Number(fileName.exec(name)?.[1]));
  return Number.isNaN(at.getTime()) ? null : at.toISOString();
}

/** Null: it is not what a command leaves. */
async function readRequest(path: string): Promise<LocalRequest | null> {
  const read = localRequestSchema.safeParse(parseJson(await readPrivateFile(path).catch(() => undefined)));
  return read.success ? read.data : null;
}

function codeOf(error: unknown): string {
  const code = (error as { readonly code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : 'INTERNAL';
}

function parseJson(text: string | undefined): unknown {
  try {
    return text === undefined ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}
