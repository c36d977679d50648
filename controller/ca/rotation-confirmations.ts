import { join } from 'node:path';
import { z } from 'zod';
import { trustReportSchema } from '../../shared/wire/trust-hint.js';
import { CulvertError } from '../../shared/errors.js';
import { readPrivateFile, writePrivateFile } from '../../shared/private-file.js';

/** What one node said last of the roots that it trusts and that its certificates end at. */
const confirmationSchema = z.object({
  node: z.string(),
  /** Null: it sent no heartbeat since it joined, or its version does not report it. */
  trust: trustReportSchema.nullable(),
  /** Null: never. */
  lastSeenMs: z.number().nullable(),
});
export type TrustConfirmation = z.infer<typeof confirmationSchema>;

const fileSchema = z.object({ nodes: z.array(confirmationSchema) });

/**
 * `ca/confirmations.json` in the state directory: the nodes of the mesh and what each has confirmed. The controller writes
 * it, because the commands that change the CA run while it is stopped.
 */
export class ConfirmationFile {
  readonly #path: string;
  #written: string | undefined;

  constructor(init: { readonly stateDir: string }) {
    this.#path = join(init.stateDir, 'ca', 'confirmations.json');
  }

  /** Undefined when no controller has written it yet. Errors: `STATE_READ`, `CONFIRMATIONS_INVALID`. */
  async read(): Promise<readonly TrustConfirmation[] | undefined> {
    const text = await readPrivateFile(this.#path);
    if (text === undefined) return undefined;
    try {
      return fileSchema.parse(JSON.parse(text)).nodes;
    } catch (cause) {
      throw new CulvertError({
        code: 'CONFIRMATIONS_INVALID',
        message: `${this.#path} is damaged`,
        hint: 'delete it and start the controller, which writes it again as soon as agents report',
        cause,
      });
    }
  }

  /** Writes only what differs from the last write in more than the time. Errors: `STATE_WRITE`. */
  async write(nodes: readonly TrustConfirmation[]): Promise<void> {
    const essence = JSON.stringify(nodes.map(({ node, trust }) => ({ node, trust })));
    if (essence === this.#written) return;
    await writePrivateFile(this.#path, `${JSON.stringify({ nodes }, null, 1)}\n`);
    this.#written = essence;
  }
}
