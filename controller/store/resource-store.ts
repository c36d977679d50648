import { CulvertError, describeError } from '../../shared/errors.js';
import { inTurns } from '../../shared/in-turns.js';
import type { Log } from '../../shared/log.js';
import { parsingDocuments } from '../resources/parse/parse-documents.js';
import { formatProblem, type Problem } from '../resources/kinds/problem.js';
import type { ResourceId } from '../resources/kinds/resource-key.js';
import type { Distribution } from '../publish/distribution.js';
import type { CompiledRevision, RevisionCompiler } from '../release/compiled-revision.js';
import { checkTests } from './check-tests.js';
import { applyCommit, emptyState, type Commit, type CommittedState } from '../release/committed-state.js';
import type { History, ResourceChange } from './history.js';
import type { Journal } from './journal.js';
import { nextCommit, planDelete, planningApply, type Author, type Plan } from './plan-change.js';
import { planRollback } from './plan-rollback.js';
import { chooseState } from './recover-state.js';
import { SerialQueue } from '../../shared/serial-queue.js';

export type ApplyRequest = {
  readonly documents: string;
  readonly dryRun: boolean;
  readonly by: string;
  readonly message?: string;
};

export type RollbackRequest = Omit<ApplyRequest, 'documents'> & { readonly revision: number };

type StoreJournal = Pick<Journal, 'append' | 'checkpoint' | 'history'>;

export type ChangeOutcome =
  | { readonly ok: false; readonly problems: readonly Problem[] }
  | {
      readonly ok: true;
      /** The revision that holds after the change (the present one when nothing changed or it was a dry run). */
      readonly revision: number;
      readonly changes: readonly ResourceChange[];
      readonly warnings: readonly Problem[];
    };

/**
 * Everything that people have applied: one numbered state after the other, kept in the journal and published through
 * NATS. Changes are made one at a time, each in this order, so that it is all or nothing whatever fails in between:
 *
 * 1. validate the documents, the whole set that results, compile it and run its rules' tests: a problem changes nothing;
 * 2. announce it in NATS (intent) and store the snapshot: a failure is undone, nothing changed;
 * 3. write the journal, fsynced: from here on it has happened;
 * 4. documents, pointer (compare-and-set), registry: a failure is repeated until it is done;
 * 5. remove the intent.
 *
 * {@link settle} does what a crash left undone. Reads come from memory and work without NATS.
 */
export class ResourceStore {
  readonly #journal: StoreJournal;
  #distribution: Distribution | undefined;
  readonly #builder: RevisionCompiler;
  readonly #log: Log;
  readonly #nowMs: () => number;
  readonly #queue = new SerialQueue();
  /** False when the journal was absent or unusable at the start: then NATS says what was applied. */
  #isJournalUsable: boolean;
  #release: CompiledRevision;
  #isSettled = false;

  constructor(init: {
    readonly journal: StoreJournal;
    /** What the journal held; undefined when it held nothing. */
    readonly state: CommittedState | undefined;
    readonly builder: RevisionCompiler;
    readonly log: Log;
    readonly nowMs: () => number;
  }) {
    this.#journal = init.journal;
    this.#builder = init.builder;
    this.#log = init.log;
    this.#nowMs = init.nowMs;
    this.#isJournalUsable = init.state !== undefined;
    this.#release = this.#build(init.state ?? emptyState);
  }

  /** Called once, when NATS is connected for the first time; until then nothing can be changed. */
  attach(distribution: Distribution): void {
    this.#distribution = distribution;
  }

  /** What was applied last, and what is published of it. Never modified. */
  get release(): CompiledRevision {
    return this.#release;
  }

  /** The revisions that are kept, and what each changed. */
  get history(): History {
    return this.#journal.history;
  }

  /** Whether NATS holds exactly {@link release}. While it does not, changes are refused. */
  get isSettled(): boolean {
    return this.#isSettled;
  }

  /**
   * All or nothing. Errors: `STORE_UNAVAILABLE` (NATS is away; nothing changed), `JOURNAL_WRITE` (nothing changed),
   * `PAYLOAD_TOO_LARGE` (nothing changed), `PUBLISH_PENDING` (it has happened, agents will hear of it later).
   */
  async apply(request: ApplyRequest): Promise<ChangeOutcome> {
    const { documents, dryRun } = request;
    const parsed = await inTurns(parsingDocuments(documents));
    return (await this.#change(dryRun, () =>
      inTurns(planningApply(this.#release.state, parsed, this.#author(request))),
    )) as ChangeOutcome;
  }

  /**
   * A new revision with the documents of an old one, checked like an apply: what was right then may not be now.
   * Undefined when that revision is not kept. Errors as in {@link apply}.
   */
  rollback(request: RollbackRequest): Promise<ChangeOutcome | undefined> {
    return this.#change(request.dryRun, () => {
      const target = this.history.stateAt(request.revision);
      return target === undefined ? undefined : planRollback(this.#release.state, target, this.#author(request));
    });
  }

  /** Undefined when there is no such document. Errors as in {@link apply}. */
  delete(id: ResourceId, by: string): Promise<ChangeOutcome | undefined> {
    return this.#change(false, () => planDelete(this.#release.state, id, this.#author({ by })));
  }

  /**
   * Brings NATS to what was applied: at the start, after a reconnect, and whenever the two may differ. Errors:
   * `STORE_FOREIGN`, `REVISION_BEHIND`, and those of `Bus`; call it again then.
   */
  settle(): Promise<void> {
    return this.#queue.run(() => this.#settle());
  }

  /** Looks whether NATS still names the revision in force; false calls for {@link settle}. Errors as in `Bus`. */
  holds(): Promise<boolean> {
    return this.#queue.run(async () => this.#isSettled && (await this.#attached().holds(this.#release)));
  }

  /** Resolves when no change is under way. */
  idle(): Promise<void> {
    return this.#queue.idle();
  }

  #change(dryRun: boolean, makePlan: () => Plan | undefined | Promise<Plan>): Promise<ChangeOutcome | undefined> {
    return this.#queue.run(async () => {
      if (!this.#isSettled && !dryRun) await this.#settle().catch(unavailable);
      const plan = await makePlan();
      if (plan === undefined || !plan.ok) return plan;
      const { changes, commit, locations } = plan;
      if (commit === null) {
        return { ok: true, revision: this.#release.state.revision, changes, warnings: plan.warnings };
      }
      const built = await inTurns(this.#builder.building(applyCommit(this.#release.state, commit)));
      if ('problems' in built) return { ok: false, problems: built.problems };
      const { release } = built;
      const tested = checkTests({ before: this.#release, after: release, commit, locations, nowMs: this.#nowMs() });
      const warnings = [...plan.warnings, ...tested];
      if (tested.some(({ severity }) => severity === 'error')) return { ok: false, problems: warnings };
      if (!dryRun) await this.#commit(commit, release);
      return { ok: true, revision: this.#release.state.revision, changes, warnings };
    });
  }

  async #settle(): Promise<void> {
    try {
      const distribution = this.#attached();
      distribution.forget();
      const content = await distribution.read();
      const chosen = chooseState(this.#isJournalUsable ? this.#release.state : undefined, content);
      if (chosen.kind === 'first start') return await this.#commit(this.#emptyCommit());
      if (chosen.kind === 'adopt') await this.#adopt(chosen.state);
      const replacesForeign = content.published.kind === 'foreign';
      if (replacesForeign) {
        const { revision } = content.published;
        this.#log.error({ revision }, 'NATS held rules that this controller did not sign; they are replaced');
      }
      await this.#publish({ replacesForeign });
    } catch (error) {
      this.#isSettled = false;
      throw error;
    }
  }

  async #adopt(state: CommittedState): Promise<void> {
    this.#log.warn({ revision: state.revision }, 'took over from NATS what the journal does not hold');
    const release = this.#build(state);
    await this.#journal.checkpoint(state);
    this.#isJournalUsable = true;
    this.#release = release;
  }

  async #commit(commit: Commit, built?: CompiledRevision): Promise<void> {
    const state = applyCommit(this.#release.state, commit);
    const release = built ?? this.#build(state);
    const distribution = this.#attached();
    try {
      await distribution.stage(commit, release);
      await this.#journal.append(commit);
    } catch (error) {
      this.#isSettled = false;
      await distribution.clearIntent().catch(() => undefined);
      throw unpublished(error);
    }
    this.#isJournalUsable = true;
    this.#release = release;
    this.#log.info(
      { revision: commit.revision, by: commit.createdBy, puts: commit.puts.length, deletes: commit.deletes.length },
      'applied a change',
    );
    try {
      await this.#publish();
    } catch (cause) {
      this.#isSettled = false;
      throw new CulvertError({
        code: 'PUBLISH_PENDING',
        message: `revision ${commit.revision} is stored, but NATS did not take all of it: ${describeError(cause)}`,
        hint: 'it is published as soon as NATS answers; look at culvert status',
        cause,
      });
    }
  }

  async #publish({ replacesForeign = false } = {}): Promise<void> {
    const distribution = this.#attached();
    if ((await distribution.publish(this.#release, { replacesForeign })) === 'superseded') {
      this.#log.warn('this version compiles the rules differently: they get a new revision');
      return this.#commit(this.#emptyCommit());
    }
    await distribution.clearIntent();
    this.#isSettled = true;
  }

  #emptyCommit(): Commit {
    return nextCommit(this.#release.state, this.#author({ by: 'system' }));
  }

  #author({ by, message = '' }: { readonly by: string; readonly message?: string }): Author {
    return { by, nowMs: this.#nowMs(), message };
  }

  #attached(): Distribution {
    if (this.#distribution !== undefined) return this.#distribution;
    throw new CulvertError({ code: 'BUS_DISCONNECTED', message: 'NATS was not reached yet' });
  }

  /** What was stored was valid when it was applied; if this version thinks otherwise, it must not guess. */
  #build(state: CommittedState): CompiledRevision {
    const built = this.#builder.build(state);
    if ('release' in built) return built.release;
    throw new CulvertError({
      code: 'STORE_INVALID',
      message: `this version refuses what is stored: ${built.problems.map(formatProblem).join('; ')}`,
      hint: 'run the version that was running before, correct the documents there, then upgrade',
    });
  }
}

/** A failure before the journal was written: nothing has changed. */
function unpublished(error: unknown): unknown {
  if (error instanceof CulvertError && ['JOURNAL_WRITE', 'STORE_INVALID', 'PAYLOAD_TOO_LARGE'].includes(error.code)) {
    return error;
  }
  return unavailableError(error);
}

function unavailable(error: unknown): never {
  throw unavailableError(error);
}

function unavailableError(cause: unknown): CulvertError {
  const tooLarge = cause instanceof CulvertError && cause.code === 'BUS_PAYLOAD_TOO_LARGE';
  return new CulvertError({
    code: tooLarge ? 'PAYLOAD_TOO_LARGE' : 'STORE_UNAVAILABLE',
    message: `nothing was changed: ${describeError(cause)}`,
    hint: tooLarge
      ? 'raise max_payload of your nats-server to 8MB'
      : 'try again when NATS answers; the API lists what is pending under /readyz',
    cause,
  });
}
