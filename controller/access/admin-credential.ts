import { randomBytes, timingSafeEqual } from 'node:crypto';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { readPrivateFile, writePrivateFile } from '../../shared/private-file.js';
import { bearerToken, digestOf } from './bearer-token.js';
import type { Principal } from './role.js';

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
    this.#digest = digestOf(init.token);
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
  authenticate(authorization: string | undefined): Principal | undefined {
    const isRight = timingSafeEqual(digestOf(bearerToken(authorization)), this.#digest);
    return isRight ? { name: 'admin', role: 'admin' } : undefined;
  }
}

function parseYaml(text: string): unknown {
  try {
    return parse(text);
  } catch {
    return undefined;
  }
}
