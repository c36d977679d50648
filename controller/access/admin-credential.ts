import { randomBytes, timingSafeEqual } from 'node:crypto';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { readPrivateFile, writePrivateFile } from '../../shared/private-file.js';
import { bearerToken, digestOf } from './bearer-token.js';
import type { Principal } from './role.js';
import { everything } from './scope.js';

const contextSchema = z.object({ controller: z.string(), ca: z.string(), token: z.string().min(32) });

/**
 * The administrator's bearer token, and the context file `admin.yaml` (0600) in the state directory from which the
 * `culvert` command reads it: `{ controller, ca, token }`. Created at the first start. To revoke the token, delete the
 * file and restart.
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

  /** Replaces a file that is not a valid context. Errors: `STATE_READ`. */
  static async open(stateDir: string): Promise<AdminCredential> {
    const path = join(stateDir, 'admin.yaml');
    const text = await readPrivateFile(path);
    const known = contextSchema.safeParse(text === undefined ? undefined : parseYaml(text));
    const token = known.success ? known.data.token : randomBytes(32).toString('base64url');
    return new AdminCredential({ path, token });
  }

  /** Writes the context file, so that it always has the current address and roots. Errors: `STATE_WRITE`. */
  async writeContext(context: { readonly url: string; readonly caPem: string }): Promise<void> {
    const text = stringify({ controller: context.url, ca: context.caPem, token: this.token });
    if ((await readPrivateFile(this.#path)) !== text) await writePrivateFile(this.#path, text);
  }

  /** The principal of an Authorization header; undefined when the token is wrong. Compares in constant time. */
  authenticate(authorization: string | undefined): Principal | undefined {
    const isRight = timingSafeEqual(digestOf(bearerToken(authorization)), this.#digest);
    return isRight ? { name: 'admin', role: 'admin', scope: everything } : undefined;
  }
}

function parseYaml(text: string): unknown {
  try {
    return parse(text);
  } catch {
    return undefined;
  }
}
