import { rename } from 'node:fs/promises';
import { z } from 'zod';
import type { Log } from '../../shared/log.js';
import { readPrivateFile, writePrivateFile } from '../../shared/private-file.js';

/**
 * A JSON list of credentials in one file of the state directory (mode 0600). Entries hold hashes of secrets, never a
 * secret.
 */
export class CredentialFile<Entry> {
  readonly #path: string;

  private constructor(init: { readonly path: string }) {
    this.#path = init.path;
  }

  /**
   * Reads the file; a missing file is an empty list. Errors: `STATE_READ`, and what `damaged` makes of a file that is
   * damaged.
   */
  static async open<Entry>(init: {
    readonly path: string;
    readonly entrySchema: z.ZodType<Entry>;
    readonly damaged: (path: string, cause: unknown) => Error;
  }): Promise<{ readonly file: CredentialFile<Entry>; readonly entries: Entry[] }> {
    const { path, entrySchema, damaged } = init;
    const text = await readPrivateFile(path);
    try {
      const entries = text === undefined ? [] : parseEntries(text, entrySchema);
      return { file: new CredentialFile<Entry>({ path }), entries };
    } catch (cause) {
      throw damaged(path, cause);
    }
  }

  /**
   * Reads the file of credentials that are refused when they are not in it: a damaged one is moved aside and logged as an
   * error. `what` names the entries in the log and `remedy` says how to replace them. Errors: `STATE_READ`.
   */
  static async openOrMoveAside<Entry>(init: {
    readonly path: string;
    readonly entrySchema: z.ZodType<Entry>;
    readonly what: string;
    readonly remedy: string;
    readonly nowMs: () => number;
    readonly log: Log;
  }): Promise<{ readonly file: CredentialFile<Entry>; readonly entries: Entry[] }> {
    const { path, entrySchema, what, remedy, nowMs, log } = init;
    const isDamaged = new Error('damaged');
    try {
      return await CredentialFile.open({ path, entrySchema, damaged: () => isDamaged });
    } catch (error) {
      if (error !== isDamaged) throw error;
    }
    const movedAside = `${path}.corrupt-${nowMs()}`;
    await rename(path, movedAside);
    log.error({ movedAside }, `the file of ${what} is damaged and was moved aside: ${remedy}`);
    return { file: new CredentialFile<Entry>({ path }), entries: [] };
  }

  /** Replaces the whole list. Errors: `STATE_WRITE`; the old list stays then. */
  write(entries: readonly Entry[]): Promise<void> {
    return writePrivateFile(this.#path, `${JSON.stringify(entries, null, 1)}\n`);
  }
}

/** Throws for a text that is no such list. */
function parseEntries<Entry>(text: string, entrySchema: z.ZodType<Entry>): Entry[] {
  return z.array(entrySchema).parse(JSON.parse(text));
}
