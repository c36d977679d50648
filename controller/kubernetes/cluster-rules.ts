import { isDeepStrictEqual } from 'node:util';
import { setTimeout as delay } from 'node:timers/promises';
import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { StoredResource } from '../inventory/stored-resource.js';
import type { CommittedState } from '../release/committed-state.js';
import { formatProblem, type Problem } from '../resources/kinds/problem.js';
import type { Resource } from '../resources/kinds/resource.js';
import { formatResourceId, resourceId, resourceIdKey, resourceKey } from '../resources/kinds/resource-key.js';
import type { ClusterOutcome, ClusterRequest } from '../store/cluster-change.js';
import type { KubernetesApi } from './kubernetes-api.js';
import type { ClusterRulesState } from './kubernetes-state.js';
import { admissionBusy, ownProblems, type Asker } from './admission.js';
import { CostlyObjects } from './costly-objects.js';
import { DeletionBrake } from './deletion-brake.js';
import { JudgingTurns, type Place } from './judging-turns.js';
import { statusOf, type Condition, type ObjectStatus } from './object-status.js';
import { meshPart } from './mesh-part.js';
import { Reflector } from './reflector.js';
import { kindKey, readRuleObject, ruleIdOf, type RuleKind, type RuleObject } from './rule-object.js';
import { StatusWriter } from './status-writer.js';
import { timeoutSignal } from '../../shared/timeout-signal.js';

/** Changes that come within this time are one revision. */
const gatherMs = 100;
/** An object that changes all the time does not push the revisions of people out of the history. */
const betweenRevisionsMs = 1000;
const turnMs = 1000;
const retry = { firstMs: 1000, longestMs: 15_000 };
/** What does not fit is tried again after workloads and services changed, but not sooner than this after the last time. */
const fitAgainMs = 10_000;
/** How often it is asked whether deletions that wait may take effect. */
const holdAgainMs = 2000;
const maxListed = 20;
/** How long an object that was just written may take to come, and how often that is waited for. */
const watchDelayMs = 500;
const maxWaits = 2;
/** An API server waits for 5 s (`timeoutSeconds` of the webhook); what it is told has to come before. */
const judgeMs = 4500;

/** The rules as the controller has them. */
export interface RuleStore {
  readonly state: CommittedState;
  /** Rises with every change of workloads and services. */
  readonly inventorySequence: number;
  takeCluster(request: ClusterRequest): Promise<ClusterOutcome>;
}

/** What is known of the mesh, for the status of objects. */
export interface RuleFacts {
  /** The revision that each agent enforces with all its workers; null: not known, or an alarm. */
  enforcedRevisions(): readonly (number | null)[];
  /** What is suspicious about rules in force, by `SegmentationRule/db-only`. */
  warnings(): ReadonlyMap<string, readonly string[]>;
}

type Followed = {
  readonly kind: RuleKind;
  readonly reflector: Reflector<RuleObject>;
  readonly objects: Map<string, RuleObject>;
};

/**
 * Custom resources of a cluster as rules. They go through the same checks as documents, and make revisions by `kubernetes`.
 * An object that cannot be taken stops no other: its last good version stays, and its status says why. What was taken is in
 * the journal, so neither a restart nor an API server that is away takes a rule out.
 */
export class ClusterRules implements AsyncDisposable {
  readonly #store: RuleStore;
  readonly #facts: RuleFacts;
  readonly #log: Log;
  readonly #writer: StatusWriter;
  readonly #followed: readonly Followed[];
  readonly #stop = new AbortController();
  #refused: ReadonlyMap<string, readonly Problem[]> = new Map();
  /** Objects as they were when they were tried last. */
  #tried: ReadonlyMap<string, Resource> = new Map();
  readonly #costly = new CostlyObjects();
  readonly #brake: DeletionBrake;
  /** When the API server made the objects that rules are of, as they were seen last, in milliseconds of its clock. */
  readonly #madeAtMs = new Map<string, number>();
  /** What was in force when it was judged last. */
  #judged: { readonly revision: number; readonly sequence: number; readonly atMs: number } | null = null;
  #isChanged = false;
  readonly #turns = new JudgingTurns();
  #failures = 0;
  #problem: string | null = null;
  #wake: () => void = () => undefined;
  #running: Promise<unknown> = Promise.resolve();

  constructor(init: {
    readonly api: KubernetesApi;
    readonly kinds: readonly RuleKind[];
    readonly store: RuleStore;
    readonly facts: RuleFacts;
    readonly log: Log;
    readonly nowMs: () => number;
    /** For tests. */
    readonly backoff?: { readonly firstMs: number; readonly longestMs: number };
  }) {
    const { api, log, backoff, nowMs } = init;
    this.#store = init.store;
    this.#facts = init.facts;
    this.#log = log;
    this.#writer = new StatusWriter({ api, log, nowMs });
    this.#brake = new DeletionBrake({ api, log });
    this.#followed = init.kinds.map((kind) => {
      const objects = new Map<string, RuleObject>();
      const followed = {
        name: `${kind.kind} (${kind.apiVersion})`,
        path: kind.path,
        earlierPaths: kind.earlierPaths,
        isOptional: true,
        read: (object: unknown) => {
          const part = kind.isOurs ? object : meshPart(kind.kind, object);
          return part === null ? null : readRuleObject(kind, part);
        },
        onReplaced: (all: ReadonlyMap<string, RuleObject>, unreadable: ReadonlySet<string>) => {
          for (const key of objects.keys()) if (!unreadable.has(key)) objects.delete(key);
          for (const [key, object] of all) objects.set(key, object);
          this.#changed();
        },
        onChanged: (key: string, object: RuleObject | null) => {
          const before = objects.get(key);
          if (object === null) objects.delete(key);
          else objects.set(key, object);
          // Our own writes of the status come back, and are no change.
          if (!isDeepStrictEqual(before?.read, object?.read)) this.#changed();
        },
        onUnreadable: () => this.#changed(),
      };
      return { kind, objects, reflector: new Reflector({ api, log, kind: followed, ...(backoff && { backoff }) }) };
    });
  }

  start(): void {
    const { signal } = this.#stop;
    const watches = this.#followed.map(({ reflector }) => reflector.run(signal));
    this.#running = Promise.all([...watches, this.#run(signal), this.#writeStatuses(signal)]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  get state(): ClusterRulesState {
    const problems = this.#followed.flatMap(({ reflector }) => reflector.problem ?? []);
    const [objects, stored] = [this.#objects(), this.#storedKeys()];
    const refusals = objects.flatMap((object) => {
      const { status, message } = this.#accepted(object);
      return status === 'False' ? [`${object.name} in the cluster: ${message}`] : [];
    });
    const known = new Set(objects.map(({ key }) => key));
    const stays = [...stored]
      .filter(([key]) => !known.has(key) && this.#refused.has(key))
      .map(([key, { resource }]) => {
        const why = (this.#refused.get(key) ?? []).map(formatProblem).join('; ');
        return `${formatResourceId(resourceId(resource))} was deleted in the cluster, and stays in force: ${why}`;
      });
    const { holds } = this.#brake;
    const unanswered = holds.flatMap(({ message, isProblem }) => (isProblem ? [message] : []));
    const waits = holds.flatMap(({ message, isProblem }) => (isProblem ? [] : [message]));
    return {
      objects: objects.length,
      taken: stored.size,
      problems: [
        ...new Set([...problems, this.#problem ?? [], this.#writer.problem ?? [], unanswered, this.#unread()].flat()),
      ],
      warnings: [...waits, ...this.#absences(stored), ...refusals, ...stays].slice(0, maxListed),
    };
  }

  #unread(): readonly string[] {
    const names = this.#followed.flatMap(({ kind, reflector }) =>
      [...reflector.unreadable].map((key) => formatResourceId(ruleIdOf(kind, key))),
    );
    return names
      .slice(0, maxListed)
      .map((name) => `${name} in the cluster cannot be understood: what was taken of it stays in force; see the log`);
  }

  /** Kinds that the cluster no longer has, and the rules still have. */
  #absences(stored: ReadonlyMap<string, StoredResource>): readonly string[] {
    const kinds = new Set([...stored.values()].map(({ resource }) => kindKey(resource)));
    const absent = this.#followed.filter(({ kind, reflector }) => reflector.isAbsent && kinds.has(kindKey(kind)));
    return absent.map(({ kind: { kind, apiVersion } }) => {
      return `the cluster has no ${kind} (${apiVersion}) any more: what was taken of it stays in force`;
    });
  }

  /**
   * What is wrong with an object that is about to be written: by itself, or together with the rules and with what the cluster
   * has already. Changes nothing. Askers have turns ({@link JudgingTurns}). `signal`: who asks is gone. Errors:
   * `ADMISSION_BUSY` (too many ask, or it takes too long: nothing is known of the object, and the failure policy of the
   * webhook decides), and those of `takeCluster`.
   */
  async judge(object: RuleObject, asker: Asker, signal: AbortSignal): Promise<readonly Problem[]> {
    const { read } = object;
    if ('problems' in read) return ownProblems(object);
    using place = this.#turns.enter(asker);
    const limited = AbortSignal.any([signal, place.signal, this.#stop.signal, timeoutSignal(judgeMs)]);
    try {
      return await this.#judgeWithOthers(object.key, read.resource, place, limited);
    } catch (error) {
      throw limited.aborted ? admissionBusy(error) : error;
    }
  }

  async #judgeWithOthers(key: string, asked: Resource, place: Place, signal: AbortSignal): Promise<readonly Problem[]> {
    for (let waits = 0; ; waits++) {
      const { refused } = await place.turn(() => {
        const { puts, deletes, later = new Set() } = this.#withoutHeld(this.#withoutCostly(this.#request()));
        const others = puts.filter((resource) => resourceKey(resource) !== key);
        const request = { puts: [...others, asked], deletes: deletes.filter((each) => each !== key) };
        return this.#store.takeCluster({ ...request, first: key, later, dryRun: true, signal });
      }, signal);
      const problems = refused.get(key) ?? [];
      if (problems.length === 0 || waits === maxWaits) return problems;
      // What it names may have been written a moment ago, and the watch tells of it soon.
      await delay(watchDelayMs, undefined, { signal });
    }
  }

  #changed(): void {
    this.#isChanged = true;
    this.#wake();
  }

  async #run(signal: AbortSignal): Promise<void> {
    let notBeforeMs = 0;
    while (!signal.aborted) {
      const isDue = this.#isKnown && this.#isChanged;
      await this.#sleep(isDue ? Math.max(0, notBeforeMs - performance.now()) : turnMs, signal);
      const nowMs = performance.now();
      if (!this.#isKnown || nowMs < notBeforeMs || !(this.#isChanged || this.#mayFitNow(nowMs))) continue;
      await delay(gatherMs, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      const { revision } = this.#store.state;
      const isTaken = await this.#take(signal);
      if (!isTaken) notBeforeMs = performance.now() + this.#pauseMs();
      else if (this.#store.state.revision > revision) notBeforeMs = performance.now() + betweenRevisionsMs;
    }
  }

  /** Apart from the rules, so that an API server that is slow to take a status does not hold them. */
  async #writeStatuses(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await delay(turnMs, undefined, { signal }).catch(() => undefined);
      if (this.#judged !== null && !signal.aborted) await this.#writer.write(this.#statuses(), signal);
    }
  }

  /** Until every kind was listed, what a rule names may be missing only because it is not known yet. */
  get #isKnown(): boolean {
    return this.#followed.every(
      ({ reflector }) => reflector.isSynced || reflector.isAbsent || reflector.problem !== null,
    );
  }

  /** Until something changes, and for `ms` at most. */
  async #sleep(ms: number, signal: AbortSignal): Promise<void> {
    const woken = new AbortController();
    this.#wake = () => woken.abort();
    await delay(ms, undefined, { signal: AbortSignal.any([signal, woken.signal]) }).catch(() => undefined);
  }

  #pauseMs(): number {
    return Math.min(retry.longestMs, retry.firstMs * 2 ** Math.min(this.#failures, 16));
  }

  #mayFitNow(nowMs: number): boolean {
    if (this.#judged === null) return true;
    const ofCostly = ({ key, read }: RuleObject) =>
      'resource' in read && this.#costly.has(key) ? [read.resource] : [];
    if (this.#costly.problems.size > 0 && this.#costly.due(this.#objects().flatMap(ofCostly)) !== null) return true;
    const { revision, sequence, atMs } = this.#judged;
    if (this.#brake.holds.length > 0 && nowMs - atMs >= holdAgainMs) return true;
    // A document may have taken the place of an object, or given it free.
    if (this.#store.state.revision !== revision) return true;
    return this.#refused.size > 0 && sequence !== this.#store.inventorySequence && nowMs - atMs >= fitAgainMs;
  }

  async #take(signal: AbortSignal): Promise<boolean> {
    this.#isChanged = false;
    const wanted = this.#request();
    // After the deletions were seen, because only then the answer says what they mean.
    await this.#askAboutDeletions(wanted, signal);
    if (signal.aborted) return true;
    // What changes from here on may make refused objects fit.
    const sequence = this.#store.inventorySequence;
    try {
      const refused = await this.#try(this.#withoutHeld(this.#withoutCostly(wanted)));
      const due = this.#costly.due(wanted.puts);
      const ofCostly =
        due === null ? [] : await this.#try({ puts: [due.resource], deletes: [], isBrief: due.isChanged });
      this.#tried = new Map(wanted.puts.map((resource) => [resourceKey(resource), resource]));
      this.#refused = new Map([...this.#costly.problems, ...refused, ...ofCostly]);
      const { revision } = this.#store.state;
      this.#judged = { revision, sequence, atMs: performance.now() };
      this.#failures = 0;
      this.#problem = null;
      return true;
    } catch (error) {
      this.#isChanged = true;
      this.#failures++;
      const problem = `rules of the cluster cannot be taken: ${describeError(error)}`;
      if (problem !== this.#problem) this.#log.error({ err: error }, 'rules of the cluster cannot be taken');
      this.#problem = problem;
      return false;
    }
  }

  /** What the rules have otherwise than the cluster. What is not known for certain to be gone stays. */
  #request(): ClusterRequest {
    const puts = new Map<string, Resource>();
    const present = new Set<string>();
    // What cannot be understood is there all the same.
    for (const { kind, reflector } of this.#followed) {
      for (const key of reflector.unreadable) present.add(resourceIdKey(ruleIdOf(kind, key)));
    }
    for (const object of this.#objects()) {
      present.add(object.key);
      if (!('resource' in object.read) || puts.has(object.key)) continue;
      const stored = this.#store.state.resources.get(object.key);
      const isSame = stored?.origin === 'cluster' && isDeepStrictEqual(stored.resource, object.read.resource);
      if (!isSame) puts.set(object.key, object.read.resource);
    }
    const uncertain = new Set(
      this.#followed.flatMap(({ kind, reflector }) =>
        reflector.isSynced && !reflector.isAbsent ? [] : [kindKey(kind)],
      ),
    );
    const deletes = [...this.#storedKeys()].filter(
      ([key, { resource }]) => !present.has(key) && !uncertain.has(kindKey(resource)),
    );
    const isSame = (key: string) => isDeepStrictEqual(puts.get(key), this.#tried.get(key));
    const later = new Set([...this.#refused.keys()].filter(isSame));
    return { puts: [...puts.values()], deletes: deletes.map(([key]) => key), later };
  }

  /** Returns what is refused, and why. */
  async #try(request: ClusterRequest): Promise<ReadonlyMap<string, readonly Problem[]>> {
    if (request.puts.length + request.deletes.length === 0) return new Map();
    const outcome = await this.#store.takeCluster(request);
    this.#costly.remember(request.puts, outcome);
    return outcome.refused;
  }

  async #askAboutDeletions({ deletes }: ClusterRequest, signal: AbortSignal): Promise<void> {
    const stored = this.#storedKeys();
    for (const key of this.#madeAtMs.keys()) if (!stored.has(key)) this.#madeAtMs.delete(key);
    for (const { key, madeAtMs } of this.#objects()) if (madeAtMs !== null) this.#madeAtMs.set(key, madeAtMs);
    const deleted = deletes.flatMap((key) => stored.get(key) ?? []);
    const kinds = this.#followed.map(({ kind }) => kind);
    await this.#brake.ask(deleted, kinds, (key) => this.#madeAtMs.get(key) ?? null, signal);
  }

  #withoutHeld(request: ClusterRequest): ClusterRequest {
    const stored = this.#storedKeys();
    const isHeld = (key: string) => {
      const resource = stored.get(key);
      return resource !== undefined && this.#brake.isHeld(resource);
    };
    return { ...request, deletes: request.deletes.filter((key) => !isHeld(key)) };
  }

  /** Those are tried by themselves. */
  #withoutCostly(request: ClusterRequest): ClusterRequest {
    this.#costly.forget(new Set(request.puts.map(resourceKey)));
    return { ...request, puts: request.puts.filter((resource) => !this.#costly.has(resourceKey(resource))) };
  }

  /** Ours first: of two with the same name they count. */
  #objects(): readonly RuleObject[] {
    return this.#followed.flatMap(({ objects }) => [...objects.values()]);
  }

  #storedKeys(): ReadonlyMap<string, StoredResource> {
    return new Map([...this.#store.state.resources].filter(([, { origin }]) => origin === 'cluster'));
  }

  #statuses(): { readonly object: RuleObject; readonly status: ObjectStatus }[] {
    const enforced = this.#facts.enforcedRevisions();
    const warnings = this.#facts.warnings();
    return this.#objects().flatMap((object) => {
      if (object.statusPath === null) return [];
      const accepted = this.#accepted(object);
      const stored = this.#ownStored(object);
      const isAsItIs = stored !== undefined && accepted.status === 'True';
      const { revision = null } = stored ?? {};
      const status = statusOf({
        generation: object.generation,
        accepted,
        revision: isAsItIs ? revision : null,
        earlierRevision: isAsItIs ? null : revision,
        agents: {
          enforcing: enforced.filter((each) => each !== null && revision !== null && each >= revision).length,
          all: enforced.length,
        },
        warnings: isAsItIs ? (warnings.get(object.name) ?? []) : [],
      });
      return [{ object, status }];
    });
  }

  #ownStored({ key }: RuleObject): StoredResource | undefined {
    const stored = this.#store.state.resources.get(key);
    return stored?.origin === 'cluster' ? stored : undefined;
  }

  #accepted(object: RuleObject): Pick<Condition, 'status' | 'reason' | 'message'> {
    const { read, key, name } = object;
    const stored = this.#store.state.resources.get(key);
    const own = stored?.origin === 'cluster' ? stored : undefined;
    const kept = own === undefined ? '' : '; its last good version stays in force';
    const no = (reason: string, message: string) => ({ status: 'False' as const, reason, message: message + kept });
    const invalid = ownProblems(object);
    if ('problems' in read || invalid.length > 0) return no('Invalid', invalid.map(formatProblem).join('; '));
    if (own !== undefined && isDeepStrictEqual(own.resource, read.resource)) {
      return { status: 'True', reason: 'Accepted', message: 'it is among the rules' };
    }
    if (this.#objects().find((each) => each.key === key) !== object) {
      return no('Conflict', 'the cluster has another object of this kind and name, in another group, which counts');
    }
    const problems = this.#refused.get(key);
    if (problems !== undefined) {
      const texts = problems.map((problem) => formatProblem(problem).replace(`${name}: `, ''));
      return no(stored !== undefined && own === undefined ? 'Conflict' : 'Refused', texts.join('; '));
    }
    return { status: 'Unknown', reason: 'Waiting', message: 'it has not been judged yet' };
  }
}
