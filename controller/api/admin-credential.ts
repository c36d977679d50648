import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { readPrivateFile, writePrivateFile } from '../../shared/private-file.js';

const contextSchema = z.object({ controller: z.string(), ca: z.string(), token: z.string().min(32) });

/**
 * The administrator's bearer token, and the context file `admin.yaml` (0600) in the state directory that the `culvert`
 * command takes it from: `{ controller, ca, token }`. Made at the first start; delete the file and restart to revoke it.
 */
export class AdminCredential {
  readonly token: string;
  readonly #path: string;
  readonly #digest: Buffer;

  private constructor(init: { readonly path: string; readonly token: string }) {
    this.#path = init.path;
    this.token = init.token;
    this.#digest = sha256(init.token);
  }

  /** Errors: `STATE_READ`. A file that is no context is replaced. */
  static async open(stateDir: string): Promise<AdminCredential> {
    const path = join(stateDir, 'admin.yaml');
    const text = await readPrivateFile(path);
    const known = contextSchema.safeParse(text === undefined ? undefined : parseYaml(text));
    const token = known.success ? known.data.token : randomBytes(32).toString('base64url');
    return new AdminCredential({ path, token });
  }

  /** Writes the context file, so that it always names where the API is and whom to trust. Errors: `STATE_WRITE`. */
  async writeContext(context: { readonly url: string; readonly caPem: string }): Promise<void> {
    const text = stringify({ controller: context.url, ca: context.caPem, token: this.token });
    if ((await readPrivateFile(this.#path)) !== text) await writePrivateFile(this.#path, text);
  }

  /** Who the value of an Authorization header belongs to; undefined when it is not valid. In constant time. */
  authenticate(authorization: string | undefined): string | undefined {
    const given = /^Bearer ([\x21-\x7e]{1,512})$/i.exec(authorization ?? '')?.[1] ?? '';
    return timingSafeEqual(sha256(given), this.#digest) ? 'admin' : undefined;
  }
}

function parseYaml(text: string): unknown {
  try {
    return parse(text);
  } catch {
    return undefined;
  }
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
