import { CulvertError } from '../../shared/errors.js';
import { formatResourceId, resourceId, resourceKey } from '../resources/kinds/resource-key.js';
import { kindNames, type Resource } from '../resources/kinds/resource.js';
import type { Problem } from '../resources/kinds/problem.js';
import type { CommittedState } from '../release/committed-state.js';
import { validatingSet } from '../compile/check/validate-set.js';
import { nextCommit, type Among, type Author, type CompiledChange, type Plan } from './plan-change.js';

/** Who makes the revisions that a cluster asks for. */
export const clusterAuthor = 'kubernetes';

/** What a cluster has, as far as the rules do not have it. Keys are those of `StoredResource`. */
export type ClusterRequest = {
  readonly puts: readonly Resource[];
  readonly deletes: readonly string[];
  /** Only finds what would be refused, at once; where there is a `first`, only whether that is. */
  readonly dryRun?: boolean;
  /** Who asks is gone: what has not begun is not done, and what has is given up. Only for a `dryRun`. */
  readonly signal?: AbortSignal;
  /** Tried before all others. */
  readonly first?: string;
  /** Tried after all others, because they were refused before. */
  readonly later?: ReadonlySet<string>;
  /** No trial may take longer than one of many: what it has took too long a moment ago. */
  readonly isBrief?: boolean;
};

export type ClusterOutcome = {
  /** The revision in force after it. */
  readonly revision: number;
  /** Why an object, by its key, is not as the cluster has it: it stays as the rules have it, or is not in them. */
  readonly refused: ReadonlyMap<string, readonly Problem[]>;
  /** Refused objects that alone make the checks take too long: it costs much to try them again. */
  readonly costly: ReadonlySet<string>;
};

type Item = { readonly key: string; readonly id: string; readonly put: Resource | null };

/** Of one call: each plans, checks and compiles the whole set. */
const maxTrials = 200;
/** Of them, those that changes may use up before deletions are tried, and both before what was refused before. */
const trialsOf = { changes: 120, deletions: 160 };
/** Of the checks, and of compiling, in one trial: as for other changes, until one took too long, and for what is only judged. */
const trialMs = { first: 60_000, others: 10_000 };
/** Of one call that only judges one object: others wait for it, and an API server waits for it no longer than this. */
const maxTrialsToJudge = 40;
const trialMsToJudge = 5000;
/** Of all trials that took too long. Others wait for them. */
const maxTooLong = 15;

/** Rules name segments, and segments others, so what is named comes first. */
const namedFirst: readonly string[] = ['Mesh', 'Namespace', 'ServiceEntry', 'Segment'];

/**
 * Finds as much of a request as fits together with the rules, and plans it. First all is tried at once. What is named in an
 * error is left out; where no part of the request is named, each half is tried, so that one bad object is found in a few
 * steps. What is too large or too much work is found in the same way. A `dryRun` with a `first` ends as soon as that one is
 * accepted: the others are tried only to find what it needs. `trial` returns what a part of the request comes to, and may take
 * `budgetMs`. Errors: those of `trial`, and the reason of `request.signal`.
 */
export async function planFitting(
  request: ClusterRequest,
  { resources }: Pick<CommittedState, 'resources'>,
  trial: (part: ClusterRequest, budgetMs: number) => Promise<CompiledChange>,
): Promise<{
  readonly made: Exclude<CompiledChange, { readonly problems: unknown }> | null;
  readonly refused: Map<string, readonly Problem[]>;
  readonly costly: Set<string>;
}> {
  const refused = new Map<string, readonly Problem[]>();
  const accepted: Item[] = [];
  let made: Exclude<CompiledChange, { readonly problems: unknown }> | null = null;
  const costly = new Set<string>();
  let earlier: ReadonlyMap<string, readonly Problem[]> = new Map();
  let trials = 0;
  let allowed = maxTrials;
  let tooLong = 0;
  const judged = request.dryRun === true ? request.first : undefined;
  const isJudged = () => accepted.some(({ key }) => key === judged);
  const budgetMs = () => {
    if (judged !== undefined) return trialMsToJudge;
    return request.dryRun === true || request.isBrief === true || tooLong > 0 ? trialMs.others : trialMs.first;
  };

  const attempt = async (part: ClusterRequest): Promise<CompiledChange> => {
    try {
      return await trial(part, budgetMs());
    } catch (error) {
      if (!(error instanceof CulvertError) || !tooMuch.has(error.code)) throw error;
      if (error.code === 'TOO_MUCH_WORK') tooLong++;
      return { problems: [{ ...ofAll, message: error.message, hint: error.hint ?? '' }] };
    }
  };

  const add = async (items: readonly Item[]): Promise<void> => {
    if (items.length === 0) return;
    if (tooLong >= maxTooLong || trials >= allowed) return leave(items);
    request.signal?.throwIfAborted();
    trials++;
    const before = tooLong;
    const tried = await attempt(requestOf([...accepted, ...items]));
    if (!('problems' in tried)) {
      made = tried;
      accepted.push(...items);
      return;
    }
    const errors = tried.problems.filter(({ severity }) => severity === 'error');
    const [only] = items;
    const named = items.filter(({ id }) => errors.some(({ resource }) => resource === id));
    if (named.length > 0) {
      for (const item of named)
        refuse(
          [item],
          errors.filter(({ resource }) => resource === item.id),
        );
      return await add(items.filter((item) => !named.includes(item)));
    }
    if (items.length === 1 && only !== undefined) {
      if (tooLong > before) costly.add(only.key);
      return refuse([only], errors);
    }
    const middle = Math.ceil(items.length / 2);
    await add(items.slice(0, middle));
    await add(items.slice(middle));
  };
  /** What was found out before still holds. */
  const leave = (items: readonly Item[]): void => {
    for (const { key } of items) refused.set(key, earlier.get(key) ?? [tooMany]);
  };
  const refuse = (items: readonly Item[], problems: readonly Problem[]): void => {
    for (const { key } of items) refused.set(key, problems);
  };

  let waiting = itemsOf(request, resources);
  // What was refused may fit to what was taken after it.
  for (let before = -1; waiting.length > 0 && accepted.length > before && !isJudged();) {
    before = accepted.length;
    earlier = new Map(refused);
    refused.clear();
    const parts = partsOf(waiting, request);
    for (const { items, upTo } of parts) {
      allowed = judged === undefined ? upTo : Math.min(upTo, maxTrialsToJudge);
      const had = accepted.length;
      await add(items);
      if (isJudged()) break;
      // What was just accepted may be what it needs.
      const [first] = parts;
      if (judged !== undefined && first !== undefined && accepted.length > had) {
        earlier = new Map([...earlier, ...refused]);
        for (const { key } of first.items) refused.delete(key);
        await add(first.items);
        if (isJudged()) break;
      }
    }
    waiting = waiting.filter(({ key }) => refused.has(key));
  }
  for (const { key } of accepted) costly.delete(key);
  return { made, refused, costly };
}

/** In their order. What is bad does not use up the trials of what is not. */
function partsOf(
  items: readonly Item[],
  { first, later = new Set() }: ClusterRequest,
): readonly { readonly items: readonly Item[]; readonly upTo: number }[] {
  const [before, rest] = [items.filter(({ key }) => key === first), items.filter(({ key }) => key !== first)];
  const fresh = rest.filter(({ key }) => !later.has(key));
  const refused = rest.filter(({ key }) => later.has(key));
  return [
    { items: before, upTo: maxTrials },
    { items: fresh.filter(({ put }) => put !== null), upTo: trialsOf.changes },
    { items: fresh.filter(({ put }) => put === null), upTo: trialsOf.deletions },
    { items: refused.filter(({ put }) => put !== null), upTo: maxTrials },
    { items: refused.filter(({ put }) => put === null), upTo: maxTrials },
  ];
}

/** Codes of errors that are about the size of a change: a part of it may do. */
const tooMuch: ReadonlySet<string> = new Set(['PAYLOAD_TOO_LARGE', 'TOO_MUCH_WORK']);

const ofAll = { severity: 'error', fileName: null, document: null, line: null, resource: null, path: '' } as const;

const tooMany: Problem = {
  ...ofAll,
  message: 'is not judged yet, because too many others have problems',
  hint: 'correct those first',
};

function itemsOf({ puts, deletes }: ClusterRequest, resources: CommittedState['resources']): readonly Item[] {
  const rank = ({ kind }: Resource): number => {
    const first = namedFirst.indexOf(kind);
    return first < 0 ? namedFirst.length + kindNames.indexOf(kind) : first;
  };
  const put = [...puts].sort((a, b) => rank(a) - rank(b)).map((resource) => itemOf(resource, resource));
  const gone = deletes
    .flatMap((key) => resources.get(key)?.resource ?? [])
    .sort((a, b) => rank(b) - rank(a))
    .map((resource) => itemOf(resource, null));
  return [...put, ...gone];
}

function itemOf(resource: Resource, put: Resource | null): Item {
  return { key: resourceKey(resource), id: formatResourceId(resourceId(resource)), put };
}

function requestOf(items: readonly Item[]): ClusterRequest {
  return {
    puts: items.flatMap(({ put }) => put ?? []),
    deletes: items.filter(({ put }) => put === null).map(({ key }) => key),
  };
}

/** Plans to take objects of a cluster into the rules and to take others out, in steps. Changes nothing. */
export function* planningCluster(
  state: CommittedState,
  { puts, deletes }: ClusterRequest,
  author: Author,
  { services, ...where }: Among,
): Generator<void, Plan> {
  const wanted = new Map(puts.map((resource) => [resourceKey(resource), resource]));
  const gone = new Set(deletes);
  const kept = [...state.resources.values()].filter(({ key }) => !wanted.has(key) && !gone.has(key));
  const resources = [...kept.map(({ resource }) => resource), ...wanted.values(), ...services];
  const problems = yield* validatingSet(resources, new Map(), { nowMs: author.nowMs, ...where });
  if (problems.some(({ severity }) => severity === 'error')) return { ok: false, problems };
  const base = nextCommit(state, author);
  const stored = [...wanted].map(([key, resource]) => ({
    key,
    resource,
    revision: base.revision,
    appliedAt: base.createdAt,
    appliedBy: author.by,
    origin: 'cluster' as const,
  }));
  const commit = stored.length + deletes.length === 0 ? null : { ...base, puts: stored, deletes };
  return { ok: true, changes: [], warnings: problems, commit, locations: new Map() };
}
