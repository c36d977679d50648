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
   * Reads the file; a missing file is an empty list. A damaged file is moved aside and logged as an error: its
   * credentials are refused from then on. `what` names the entries in the log and `remedy` says how to replace them.
   * Errors: `STATE_READ`.
   */
  static async open<Entry>(init: {
    readonly path: string;
    readonly entrySchema: z.ZodType<Entry>;
    readonly what: string;
    readonly remedy: string;
    readonly nowMs: () => number;
    readonly log: Log;
  }): Promise<{ readonly file: CredentialFile<Entry>; readonly entries: Entry[] }> {
    const { path, entrySchema, what, remedy, nowMs, log } = init;
    const text = await readPrivateFile(path);
    const entries = text === undefined ? [] : parseEntries(text, entrySchema);
    if (entries === undefined) {
      const movedAside = `${path}.corrupt-${nowMs()}`;
      await rename(path, movedAside);
      log.error({ movedAside }, `the file of ${what} is damaged and was moved aside: ${remedy}`);
    }
    return { file: new CredentialFile<Entry>({ path }), entries: entries ?? [] };
  }

  /** Replaces the whole list. Errors: `STATE_WRITE`; the old list stays then. */
  write(entries: readonly Entry[]): Promise<void> {
    return writePrivateFile(this.#path, `${JSON.stringify(entries, null, 1)}\n`);
  }
}

function parseEntries<Entry>(text: string, entrySchema: z.ZodType<Entry>): Entry[] | undefined {
  try {
    return z.array(entrySchema).parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}
