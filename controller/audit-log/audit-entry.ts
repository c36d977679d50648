import { createHash } from 'node:crypto';
import { z } from 'zod';

/** What a line of the audit log can be about. `culvert audit-log --action` takes these, and a part before a point. */
export const auditActions = [
  'apply',
  'apply.break-glass',
  'delete',
  'delete.break-glass',
  'rollback',
  'advance',
  'user.create',
  'user.renew',
  'user.delete',
  'token.create',
  'token.revoke',
  'node.remove',
  'node.join',
  'ca.export',
  'keys.change',
  'ca.import',
  'ca.rotate',
  /** The roots of an issuer elsewhere have changed: in the file that the operator names, or the one that it signs under. */
  'ca.roots',
  /** Custom resources of the cluster have changed the rules; who changed them is in the audit log of Kubernetes. */
  'cluster.rules',
  /** A request that was refused before anything was done: without a valid credential, or beyond a role or scope. */
  'refused',
  /** Requests that changed nothing, such as dry runs, and have no line of their own. */
  'unchanged',
  /** What the controller notes about the log itself. */
  'audit-log.healed',
  'audit-log.shortened',
] as const;
export type AuditAction = (typeof auditActions)[number];

const results = ['begun', 'done', 'refused', 'failed', 'noted'] as const;
/**
 * `begun`: a request that changes something, on disk before anything is done. `done`, `refused` and `failed` end it, or are the
 * only line of one that changed nothing. `noted`: a line of the log about itself, or about requests without a line.
 */
export type AuditResult = (typeof results)[number];

const detailValue = z.union([z.string(), z.number(), z.boolean(), z.array(z.string())]);

/** What a line says. Never a secret: each field is one of a closed list of names, numbers and codes. */
export const auditFactsSchema = z.object({
  user: z.string(),
  /** The address of the client; `local` for a command on the controller's host. */
  source: z.string(),
  action: z.enum(auditActions),
  /** What it is about: a user, a node, a document, a revision; null: several things, or not known yet. */
  target: z.string().nullable(),
  result: z.enum(results),
  /** Of a refusal or failure. */
  code: z.string().nullable(),
  /** The line with which this request began. */
  of: z.number().nullable(),
  detail: z.record(z.string(), detailValue),
});
export type AuditFacts = z.infer<typeof auditFactsSchema>;
export type AuditDetail = AuditFacts['detail'];

const auditEntrySchema = auditFactsSchema.extend({
  seq: z.int().min(1),
  /** RFC 3339. */
  at: z.string(),
  /** `hash` of the line before; zeros in the first line of all. */
  prev: z.string().length(64),
});
export type AuditEntry = z.infer<typeof auditEntrySchema>;

/** The last line of a chain. */
export type ChainHead = { readonly seq: number; readonly hash: string };

export const chainStart: ChainHead = { seq: 0, hash: '0'.repeat(64) };

/** A line without its newline: JSON, whose last field `hash` is the SHA-256 of the JSON without it. */
export function encodeEntry(entry: AuditEntry): { readonly text: string; readonly hash: string } {
  const { seq, at, ...rest } = entry;
  const json = JSON.stringify({ seq, at, ...rest });
  const hash = digest(json);
  return { text: `${json.slice(0, -1)},"hash":"${hash}"}`, hash };
}

const hashField = /^(.*),"hash":"([0-9a-f]{64})"\}$/s;

export type DecodedLine =
  | { readonly entry: AuditEntry; readonly hash: string }
  | { readonly entry: null; readonly problem: string };

export function decodeLine(text: string): DecodedLine {
  const [, fields, hash = ''] = hashField.exec(text) ?? [];
  if (fields === undefined) return { entry: null, problem: 'it is not a line of an audit log' };
  const json = `${fields}}`;
  if (digest(json) !== hash) return { entry: null, problem: 'it was changed: its hash is that of another text' };
  const read = auditEntrySchema.safeParse(parseJson(json));
  return read.success ? { entry: read.data, hash } : { entry: null, problem: 'it is not a line of an audit log' };
}

/** The hash of a text that is no valid line, so that the chain can go on behind it. */
export function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
