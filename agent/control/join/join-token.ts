import { CulvertError } from '../../../shared/errors.js';

export type JoinToken = {
  readonly id: string;
  /** SHA-256 of the root's public key, hex: the only thing that is trusted before the join. */
  readonly caHash: string;
};

/** Reads `culvert1.<id>.<secret>.<ca hash>`. Throws CulvertError `TOKEN_INVALID`, which never contains the token. */
export function parseJoinToken(text: string): JoinToken {
  const match = /^culvert1\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.([0-9a-f]{64})$/.exec(text);
  const [, id, caHash] = match ?? [];
  if (id === undefined || caHash === undefined) {
    throw new CulvertError({
      code: 'TOKEN_INVALID',
      message: 'this is no join token',
      hint: 'make one with "culvert token create --node NAME" and give the whole line',
    });
  }
  return { id, caHash };
}
