import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { CulvertError } from '../../shared/errors.js';
import { formatPath, formatProblem, type Problem } from '../resources/kinds/problem.js';
import { readRuleObject, type RuleKind, type RuleObject } from './rule-object.js';

const reviewSchema = z.object({
  request: z.object({
    uid: z.string().min(1).max(256),
    operation: z.string(),
    kind: z.object({ group: z.string(), version: z.string(), kind: z.string() }),
    namespace: z.string().max(256).nullish(),
    userInfo: z.object({ username: z.string().nullish() }).nullish(),
    object: z.unknown(),
    oldObject: z.unknown(),
  }),
});

/** Longer answers say the same. */
const maxMessage = 4096;
const maxAccount = 256;

/** Who asks about an object, and where the object is. */
export type Asker = {
  /** Of a service account, its namespace: who may make one account there may make many. */
  readonly account: string;
  /** Of the object; empty: it belongs to the whole cluster. */
  readonly namespace: string;
};

/** The question of an API server about an object that is about to be written (AdmissionReview, admission.k8s.io/v1). */
export type AdmissionQuestion = {
  readonly uid: string;
  readonly asker: Asker;
  /** Null: it is nothing that is judged. */
  readonly object: RuleObject | null;
};

/** Errors: `BAD_REQUEST` where it is no question about an object that becomes rules. */
export function readAdmission(body: Buffer, kinds: readonly RuleKind[]): AdmissionQuestion {
  const { uid, operation, kind, object, oldObject, namespace, userInfo } = reviewOf(body).request;
  const asker = { account: accountOf(userInfo?.username ?? ''), namespace: namespace ?? '' };
  const known = kinds.find((each) => each.kind === kind.kind && each.apiVersion === `${kind.group}/${kind.version}`);
  if (known === undefined || (operation !== 'CREATE' && operation !== 'UPDATE')) return { uid, asker, object: null };
  try {
    const read = readRuleObject(known, object);
    // What changes nothing of the rule passes, or an object that is refused could not even be deleted.
    const isSame = operation === 'UPDATE' && isDeepStrictEqual(readRuleObject(known, oldObject).read, read.read);
    return { uid, asker, object: isSame ? null : read };
  } catch (cause) {
    throw malformed(cause);
  }
}

/** Service accounts of a namespace count as one, and so do names of which that many characters are the same. */
function accountOf(username: string): string {
  const [, namespace] = /^system:serviceaccount:([^:]+):/.exec(username) ?? [];
  return (namespace === undefined ? username : `system:serviceaccount:${namespace}`).slice(0, maxAccount);
}

function reviewOf(body: Buffer): z.infer<typeof reviewSchema> {
  try {
    return reviewSchema.parse(JSON.parse(body.toString('utf8')));
  } catch (cause) {
    throw malformed(cause);
  }
}

function malformed(cause: unknown): CulvertError {
  return new CulvertError({
    code: 'BAD_REQUEST',
    message: 'the question of the API server cannot be understood',
    hint: 'it must be an AdmissionReview of admission.k8s.io/v1 about an object of culvert.dev',
    cause,
  });
}

/** The answer. `problems`: what is wrong with the object by itself or together with the others; empty: nothing. */
export function admissionAnswer({ uid, object }: AdmissionQuestion, problems: readonly Problem[]): object {
  const name = object === null ? '' : `${object.name}: `;
  const message = problems.map((problem) => formatProblem(problem).replace(name, '')).join('; ');
  const denied = { allowed: false, status: { code: 422, reason: 'Invalid', message: message.slice(0, maxMessage) } };
  return {
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    response: { uid, ...(problems.length === 0 ? { allowed: true } : denied) },
  };
}

/** Nothing is known of the object: an answer that is neither yes nor no, so that the failure policy of the webhook decides. */
export function admissionBusy(cause?: unknown): CulvertError {
  return new CulvertError({
    code: 'ADMISSION_BUSY',
    message: 'the controller cannot judge this object now',
    hint: 'write it again in a few seconds; culvert status names objects of the cluster that are refused',
    cause,
  });
}

/** What is wrong with an object by itself. */
export function ownProblems({ read }: RuleObject): readonly Problem[] {
  if (!('problems' in read)) return [];
  const about = { severity: 'error', fileName: null, document: null, line: null, resource: null } as const;
  return read.problems.map(({ path, message, hint }) => ({ ...about, path: formatPath(path), message, hint }));
}
