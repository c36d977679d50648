import { z } from 'zod';
import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { StoredResource } from '../inventory/stored-resource.js';
import { formatResourceId, resourceId } from '../resources/kinds/resource-key.js';
import type { KubernetesApi } from './kubernetes-api.js';
import { KubernetesError } from './kubernetes-error.js';
import { kindKey, type RuleKind } from './rule-object.js';
import { timeoutSignal } from '../../shared/timeout-signal.js';

const definitions = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
/** On a definition that was made again, with its UID: what is missing under it was meant to go. */
const confirmation = 'culvert.dev/confirm-deletions';
const timeoutMs = 5000;
const maxNamed = 3;
/** The API server gives times in whole seconds, and its clock is not ours. */
const toleranceMs = 1000;

/** Why deletions of a kind wait. */
export type Hold = {
  readonly message: string;
  /** The API server did not say, so it is not known whether they should wait. */
  readonly isProblem: boolean;
  /** Of stored resources; null: all of the kind. */
  readonly keys: ReadonlySet<string> | null;
};

type Definition = { readonly uid: string; readonly madeAtMs: number; readonly isConfirmed: boolean };

/** What was asked of a definition: why all deletions wait, or what it is; neither: nothing of it counts. */
type Answer = { readonly hold: Hold | null; readonly definition: Definition | null };

/**
 * Keeps deletions that no person meant from taking effect. An API server that deletes a definition first deletes all its objects,
 * one by one, as if people had done it. It marks the definition before, so one that is there without the mark when it is asked
 * for after the deletions were seen has not caused them. Where it was made again meanwhile, what is missing under it may be
 * missing only because it was not put back: rules of objects of the one before stay until that is confirmed.
 */
export class DeletionBrake {
  readonly #api: Pick<KubernetesApi, 'get'>;
  readonly #log: Log;
  #holds: ReadonlyMap<string, Hold> = new Map();

  constructor(init: { readonly api: Pick<KubernetesApi, 'get'>; readonly log: Log }) {
    this.#api = init.api;
    this.#log = init.log;
  }

  /** What waits, as it was asked for last. */
  get holds(): readonly Hold[] {
    return [...this.#holds.values()];
  }

  isHeld({ key, resource }: StoredResource): boolean {
    const hold = this.#holds.get(kindKey(resource));
    return hold !== undefined && (hold.keys === null || hold.keys.has(key));
  }

  /**
   * Asks about the kinds of what was deleted. `madeAtMs`: when the API server made the object that a resource was of, by its
   * clock; null: it was never seen by this process. Never rejects.
   */
  async ask(
    deleted: readonly StoredResource[],
    kinds: readonly RuleKind[],
    madeAtMs: (key: string) => number | null,
    signal: AbortSignal,
  ): Promise<void> {
    const answers = await Promise.all(
      kinds.map(async (kind) => {
        const ofKind = deleted.filter(({ resource }) => kindKey(resource) === kindKey(kind));
        if (ofKind.length === 0) return [];
        const { hold, definition } = await askFor(kind, this.#api, signal);
        const found = hold ?? (definition === null ? null : holdOfEarlier(kind, definition, ofKind, madeAtMs));
        return found === null ? [] : [[kindKey(kind), found] as const];
      }),
    );
    const holds = new Map(answers.flat());
    for (const [key, { message }] of holds) {
      if (this.#holds.get(key)?.message !== message) this.#log.warn({ why: message }, 'deletions wait');
    }
    this.#holds = holds;
  }
}

/** Rules of objects that are older than the definition were of another definition with its name. */
function holdOfEarlier(
  { definition: name }: RuleKind,
  { uid, madeAtMs, isConfirmed }: Definition,
  deleted: readonly StoredResource[],
  objectMadeAtMs: (key: string) => number | null,
): Hold | null {
  if (isConfirmed) return null;
  const earlier = deleted.filter(({ key, appliedAt }) => {
    const atMs = objectMadeAtMs(key);
    return atMs === null ? Date.parse(appliedAt) < madeAtMs + toleranceMs : atMs < madeAtMs;
  });
  if (earlier.length === 0) return null;
  const named = earlier.slice(0, maxNamed).map(({ resource }) => formatResourceId(resourceId(resource)));
  const more = earlier.length > maxNamed ? ` and ${earlier.length - maxNamed} more` : '';
  return {
    message:
      `the definition ${name} was made again at ${new Date(madeAtMs).toISOString()}, without ${named.join(', ')}${more}: ` +
      'what was taken of them stays in force. Apply them again; or, to let them go: ' +
      `kubectl annotate --overwrite customresourcedefinition ${name} ${confirmation}=${uid}`,
    isProblem: false,
    keys: new Set(earlier.map(({ key }) => key)),
  };
}

async function askFor(
  { kind, definition }: RuleKind,
  api: Pick<KubernetesApi, 'get'>,
  signal: AbortSignal,
): Promise<Answer> {
  if (definition === null) return { hold: null, definition: null };
  const kept = `what was taken of ${kind} stays in force`;
  const holdAll = (message: string, isProblem: boolean): Answer => ({
    hold: { message, isProblem, keys: null },
    definition: null,
  });
  try {
    const answer = await api.get(`${definitions}/${definition}`, AbortSignal.any([signal, timeoutSignal(timeoutMs)]));
    const { deletionTimestamp, uid, creationTimestamp, annotations } = schemaOf(definition).parse(answer).metadata;
    if ((deletionTimestamp ?? null) !== null)
      return holdAll(`the cluster deletes the definition ${definition}: ${kept}`, false);
    const isConfirmed = annotations?.[confirmation] === uid;
    return { hold: null, definition: { uid, madeAtMs: Date.parse(creationTimestamp), isConfirmed } };
  } catch (error) {
    const status = error instanceof KubernetesError ? error.status : null;
    if (status === 404) return holdAll(`the cluster has no definition ${definition} any more: ${kept}`, false);
    const why =
      status === 403
        ? `the role of the controller must allow "get" of customresourcedefinitions ${definition}`
        : error instanceof z.ZodError
          ? 'the answer of the Kubernetes API cannot be understood'
          : describeError(error);
    return holdAll(
      `deletions of ${kind} wait, because it is not known whether ${definition} is still defined: ${why}`,
      true,
    );
  }
}

function schemaOf(name: string) {
  return z.object({
    kind: z.literal('CustomResourceDefinition'),
    metadata: z.object({
      name: z.literal(name),
      uid: z.string().min(1),
      creationTimestamp: z.string().refine((text) => Number.isFinite(Date.parse(text))),
      deletionTimestamp: z.string().nullish(),
      annotations: z.record(z.string(), z.string()).nullish(),
    }),
  });
}
