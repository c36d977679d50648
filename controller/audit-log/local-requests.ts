import { randomBytes } from 'node:crypto';
import { readdir, rename, rm } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import type { z } from 'zod';
import type { Log } from '../../shared/log.js';
import { readPrivateFile, writePrivateFile } from '../../shared/private-file.js';
import { auditFactsSchema, type AuditAction, type AuditDetail } from './audit-entry.js';
import type { AuditLog } from './audit-log.js';

const localRequestSchema = auditFactsSchema.pick({ user: true, action: true, result: true, code: true, detail: true });
type LocalRequest = z.infer<typeof localRequestSchema>;

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

  constructor({ directory }: { readonly directory: string }) {
    this.#directory = join(directory, 'local');
  }

  /** Runs a task whose beginning and end are in the log. Errors: `STATE_WRITE`: nothing was done; and those of the task. */
  async audited<T>({ action, detail = {} }: LocalCommand, task: () => Promise<T>): Promise<T> {
    const write = (result: LocalRequest['result'], code: string | null): Promise<void> =>
      this.#write({ user: userInfo().username, action, result, code, detail });
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
  async takeInto(auditLog: Pick<AuditLog, 'append'>, log: Log): Promise<void> {
    const names = await readdir(this.#directory).catch(() => []);
    for (const name of names.filter((each) => each.endsWith('.json')).sort()) {
      const path = join(this.#directory, name);
      const read = localRequestSchema.safeParse(parseJson(await readPrivateFile(path)));
      if (read.success) {
        const at = new Date(Number(name.split('-', 1)[0])).toISOString();
        const { detail, ...facts } = read.data;
        await auditLog.append({ ...facts, source: 'local', target: null, of: null, detail: { ...detail, at } });
        await rm(path, { force: true });
      } else {
        log.error({ path }, 'what a local command did cannot be read and is not in the audit log; it was moved aside');
        await rename(path, `${path}.unreadable`);
      }
    }
  }

  async #write(request: LocalRequest): Promise<void> {
    const path = join(
      this.#directory,
      `${Date.now()}-${process.hrtime.bigint()}-${randomBytes(4).toString('hex')}.json`,
    );
    await writePrivateFile(path, JSON.stringify(request));
  }
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
