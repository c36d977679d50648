import { z } from 'zod';
import {
  decodeEnvelope,
  encodeJson,
  encodePayload,
  envelopeSchema,
  parsePayload,
  signEnvelope,
  verifiedPayload,
} from './signed-envelope.js';

/**
 * What the controller says was the newest at a moment. It is signed, under {@link newestStatementKey} in the bucket of the rules,
 * and made again every {@link statementIntervalMs} and after each change: rules and registry are signed once and stay valid, so
 * only this tells an agent that nothing newer is withheld.
 */
export type NewestStatement = {
  /** When it was made, by the controller's clock. */
  readonly atMs: number;
  /** 0: no rules were ever applied. */
  readonly revision: number;
  /** The sequence of the inventory, which is that of the registry's root. */
  readonly registrySequence: number;
  /** The installation in Kubernetes is being taken away. Absent: it is not, or the controller's version does not say. */
  readonly isUninstalled?: true;
};

export const newestStatementKey = 'newest';
export const statementIntervalMs = 30_000;

const maxStatementBytes = 1024;
const asStatement = { context: 'culvert.newest.v1', about: '0' } as const;

const count = z.int().min(0);
const statementSchema = z.object({
  atMs: count,
  revision: count,
  registrySequence: count,
  isUninstalled: z.literal(true).exactOptional(),
});

export function sealNewestStatement(init: {
  readonly statement: NewestStatement;
  readonly privateKeyPem: string;
}): Uint8Array {
  const payload = encodePayload(init.statement, maxStatementBytes, 'the newest revision and its time');
  return encodeJson(signEnvelope(asStatement, payload, init.privateKeyPem));
}

/** Opens a statement that one of the keys (PEM) signed. Errors: see {@link envelopeSchema}. */
export function openNewestStatement(init: {
  readonly bytes: Uint8Array;
  readonly publicKeysPem: readonly string[];
}): NewestStatement {
  const envelope = decodeEnvelope(init.bytes, envelopeSchema, maxStatementBytes);
  const payload = verifiedPayload(asStatement, envelope, init.publicKeysPem);
  return parsePayload(payload, statementSchema, 'statement of the newest revision');
}
