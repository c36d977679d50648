import { z } from 'zod';
import {
  createAccount,
  createOperator,
  mintAccountJwt,
  mintOperatorJwt,
  nkeyPairFromSeed,
  type NkeyPair,
} from '../../shared/bus/nats-accounts.js';
import { CulvertError } from '../../shared/errors.js';
import type { KeyPurpose } from '../keys/key-files.js';
import { KeyVault } from '../keys/key-vault.js';

/** The signing keys of the embedded server. `mesh` is the account of the controller and all agents. */
export type NatsKeys = { readonly operator: NkeyPair; readonly system: NkeyPair; readonly mesh: NkeyPair };

export type NatsTokens = { readonly operatorJwt: string; readonly systemJwt: string; readonly meshJwt: string };

const fileSchema = z.strictObject({ operatorSeed: z.string(), systemSeed: z.string(), meshSeed: z.string() });

/** Reads the seeds, or creates them at the first start. New seeds would invalidate every agent's credentials. */
export async function loadNatsKeys(path: string, vault: KeyVault = KeyVault.plain): Promise<NatsKeys> {
  const purpose: KeyPurpose = 'nats/keys';
  const text = await vault.read(path, purpose);
  if (text !== undefined) return parseKeys(path, text);
  const keys = { operator: createOperator(), system: createAccount(), mesh: createAccount() };
  const file = { operatorSeed: keys.operator.seed, systemSeed: keys.system.seed, meshSeed: keys.mesh.seed };
  await vault.write(path, purpose, `${JSON.stringify(file, null, 2)}\n`);
  return keys;
}

/** The tokens for the server's configuration. `jetStreamBytes` and `revoked`: see `mintAccountJwt`. */
export function mintNatsTokens(
  keys: NatsKeys,
  jetStreamBytes: number,
  revoked: ReadonlyMap<string, number> = new Map(),
): NatsTokens {
  const { operator, system, mesh } = keys;
  return {
    operatorJwt: mintOperatorJwt({ operator, name: 'culvert', systemAccount: system.publicKey }),
    systemJwt: mintAccountJwt({ operator, accountPublicKey: system.publicKey, name: 'SYS', jetStreamBytes: 0 }),
    meshJwt: mintAccountJwt({ operator, accountPublicKey: mesh.publicKey, name: 'CULVERT', jetStreamBytes, revoked }),
  };
}

function parseKeys(path: string, text: string): NatsKeys {
  try {
    const file = fileSchema.parse(JSON.parse(text));
    return {
      operator: nkeyPairFromSeed(file.operatorSeed),
      system: nkeyPairFromSeed(file.systemSeed),
      mesh: nkeyPairFromSeed(file.meshSeed),
    };
  } catch (cause) {
    throw new CulvertError({
      code: 'NATS_KEYS_INVALID',
      message: `the key file of the embedded nats-server is damaged: ${path}`,
      hint: 'restore it from a backup; if you delete it instead, every node has to join again',
      cause,
    });
  }
}
