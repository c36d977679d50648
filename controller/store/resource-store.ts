import { CulvertError, describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import { SerialQueue } from '../../shared/serial-queue.js';
import type { Inventory } from '../inventory/inventory.js';
import type { InventoryTurn } from '../inventory/inventory-turn.js';
import { registeredServices } from '../inventory/registered-services.js';
import { isInventoryKind } from '../inventory/stored-resource.js';
import type { Distribution, StoreContent } from '../publish/distribution.js';
import type { InventoryPublication } from '../publish/inventory-publication.js';
import type { CompiledRevision, RevisionCompiler } from '../release/compiled-revision.js';
import { applyCommit, emptyState, type Commit, type CommittedState } from '../release/committed-state.js';
import { formatProblem } from '../resources/kinds/problem.js';
import { outcomeOf, type ChangeOutcome } from './change-outcome.js';
import { ChangePlanner, type WholePlan } from './change-planner.js';
import { clusterAuthor, planFitting, type ClusterOutcome, type ClusterRequest } from './cluster-change.js';
import type { History } from './history.js';
import { InventoryChanges } from './inventory-changes.js';
import type { Journal } from './journal.js';
import { nextCommit, type Author, type CompiledChange } from './plan-change.js';
import { splitResources } from './plan-inventory.js';
import { chooseState } from './recover-state.js';
import { handOver, settleInventory } from './settle-inventory.js';
import { changedDocuments } from './changed-documents.js';
import { namesServiceAmong, ruleDependencies } from './rule-dependencies.js';
import type { AdvanceRequest, ApplyRequest, Changing, DeleteRequest, RollbackRequest } from './store-requests.js';
import { unavailable, unpublished } from './store-errors.js';
import { withoutInventory, workedOut, type InventoryReading } from './worked-out.js';

type StoreJournal = Pick<Journal, 'append' | 'checkpoint' | 'history'>;

/**
 * All applied documents. Rules have numbered revisions, which the journal keeps and NATS distributes. Workloads and services
 * belong to the inventory and need no revision ({@link InventoryChanges}).
 *
 * Changes of rules are made one at a time. Each takes these steps, so that it is atomic whatever fails:
 *
 * 1. validate the documents and the whole resulting set, compile it, and run the tests of its rules: a problem changes
 *    nothing;
 * 2. announce the change in NATS (intent) and store the snapshot: a failure is undone, and changes nothing;
 * 3. write the journal, fsynced, with the change's inventory part: from here on the change is made;
 * 4. apply the inventory part, once, also fsynced;
 * 5. write documents, pointer (compare-and-set) and registry to NATS: retried until it succeeds;
 * 6. remove the intent.
 *
 * {@link settle} completes what a crash interrupted. No other change of the inventory is made during steps 2 to 5, and where the
 * change has an inventory part from step 1 on ({@link workedOut}). Reads come from memory and work without NATS.
 */
export class ResourceStore {
  readonly inventory: Inventory;
  readonly #journal: StoreJournal;
  #distribution: Distribution | undefined;
  readonly #publication: InventoryPublication;
  readonly #changes: InventoryChanges;
  readonly #planner: ChangePlanner;
  readonly #builder: RevisionCompiler;
  readonly #log: Log;
  readonly #nowMs: () => number;
  readonly #queue = new SerialQueue();
  /** False when the journal was absent or unusable at the start: then NATS decides what was applied. */
  #isJournalUsable: boolean;
  #release: CompiledRevision;
  #isSettled = false;

  constructor(init: {
    readonly journal: StoreJournal;
    /** The journal's state; undefined when it was empty. */
    readonly state: CommittedState | undefined;
    readonly inventory: Inventory;
    readonly publication: InventoryPublication;
    readonly builder: RevisionCompiler;
    readonly trustDomain: string;
    /** Custom resources of a cluster are rules too, and are changed there only. */
    readonly hasCluster: boolean;
    readonly log: Log;
    readonly nowMs: () => number;
  }) {
    this.inventory = init.inventory;
    this.#journal = init.journal;
    this.#publication = init.publication;
    this.#builder = init.builder;
    this.#planner = new ChangePlanner(init);
    this.#log = init.log;
    this.#nowMs = init.nowMs;
    this.#isJournalUsable = init.state !== undefined;
    this.#release = this.#build(init.state ?? emptyState);
    this.#changes = new InventoryChanges({
      inventory: init.inventory,
      publication: init.publication,
      release: () => this.#release,
      nowMs: init.nowMs,
      trustDomain: init.trustDomain,
    });
    init.inventory.onChange(({ published }) => this.#onInventory(published));
  }

  /** Call it once, when NATS is connected for the first time. Until then all changes are refused. */
  attach(distribution: Distribution): void {
    this.#distribution = distribution;
  }

  /** The rules applied last, in the form that is published. Immutable. */
  get release(): CompiledRevision {
    return this.#release;
  }

  /** The kept revisions, and what each one changed. */
  get history(): History {
    return this.#journal.history;
  }

  /** What is on disk, and so counts: the newest revision and sequence of the inventory. */
  newest(): Promise<{ readonly revision: number; readonly registrySequence: number }> {
    return this.inventory.readDurable(() => ({
      revision: this.#release.state.revision,
      registrySequence: this.inventory.sequence,
    }));
  }

  /** Whether NATS holds exactly {@link release} and follows the inventory. While it does not, changes are refused. */
  get isSettled(): boolean {
    return this.#isSettled;
  }

  /** The registry could not be written to NATS: compares and repairs everything. */
  noteUnpublished(): void {
    this.#isSettled = false;
    this.settle().catch((error: unknown) => {
      this.#log.debug({ err: error }, 'could not write the registry to NATS; retrying');
    });
  }

  /**
   * Atomic. Errors: `STORE_UNAVAILABLE` (NATS is unreachable; nothing changed), `JOURNAL_WRITE` (nothing changed),
   * `PAYLOAD_TOO_LARGE` (nothing changed), `PUBLISH_PENDING` (the change is made, but agents get it later).
   */
  async apply(request: ApplyRequest): Promise<ChangeOutcome> {
    const { parsed, dryRun } = request;
    const { rules, inventory } = splitResources(parsed.resources);
    if (rules.length === 0 && inventory.length > 0) {
      await this.#settled(dryRun);
      const author = this.#author(request);
      const outcome = await this.#changes.apply({ ...request, author });
      if (outcome !== 'needs a revision') return outcome;
    }
    return (await this.#change(request, inventory.length > 0, (reading) =>
      this.#planner.apply(reading, this.#release, parsed, this.#author(request)),
    )) as ChangeOutcome;
  }

  /**
   * Makes a new revision with the rules of an old one, checked like an apply, because they may no longer be valid. Undefined
   * when that revision is not kept. Errors as in {@link apply}.
   */
  rollback(request: RollbackRequest): Promise<ChangeOutcome | undefined> {
    return this.#change(request, false, (reading) => {
      const target = this.history.stateAt(request.revision);
      if (target === undefined) return undefined;
      return this.#planner.rollback(reading, this.#release, target, this.#author(request));
    });
  }

  /**
   * All or none of the documents, in one revision at most. Undefined when one does not exist and has to. Errors as in
   * {@link apply}.
   */
  async delete(request: DeleteRequest): Promise<ChangeOutcome | undefined> {
    const hasInventory = request.ids.some(({ kind }) => isInventoryKind(kind));
    if (hasInventory) {
      await this.#settled(request.dryRun);
      const outcome = await this.#changes.delete(request);
      if (outcome !== 'needs a revision') return outcome;
    }
    return this.#change(request, hasInventory, (reading) =>
      this.#planner.delete(reading, this.#release, request, this.#author(request)),
    );
  }

  /**
   * Takes what the custom resources of a cluster say now, in one revision at most. What cannot be taken does not stop the
   * others: it stays as it is. A `dryRun` waits for no change, and no change for it. Errors as in {@link apply}, and the
   * reason of its `signal`.
   */
  async takeCluster(request: ClusterRequest): Promise<ClusterOutcome> {
    const work = (reading: InventoryReading, present = this.#release, author = this.#author({ by: clusterAuthor })) =>
      planFitting(request, present.state, (part, budgetMs) =>
        this.#planner.fromCluster(reading, present, part, { author, budgetMs, signal: request.signal }),
      );
    if (request.dryRun === true) return { ...(await work(withoutInventory)), revision: this.#release.state.revision };
    return await this.#queue.run(async () => {
      if (!this.#isSettled) await this.#settle().catch(unavailable);
      const { revision } = this.#release.state;
      const outcome = await workedOut({
        inventory: this.inventory,
        isHeld: false,
        work: (reading) => work(reading),
        release: ({ made }) => (made?.commit != null ? made.release : null),
        make: async (turn, worked) => {
          if (worked.made?.commit != null) await this.#commit(turn, worked.made.commit, worked.made.release);
          return { ...worked, revision: this.#release.state.revision };
        },
      });
      if (outcome.revision > revision) await this.#reached();
      return outcome;
    });
  }

  /**
   * Gives the present rules and the whole registry later numbers, so that agents which have earlier ones of a lost state take
   * them. Errors as in {@link apply}; call it again then.
   */
  advance({ revision, sequence, by, message, begin }: AdvanceRequest): Promise<void> {
    return this.#queue.run(async () => {
      if (!this.#isSettled) await this.#settle().catch(unavailable);
      await begin();
      try {
        await this.inventory.exclusively(async (turn) => {
          await turn.renumber(sequence);
          await this.#commit(turn, { ...nextCommit(this.#release.state, this.#author({ by, message })), revision });
        });
        await this.#reached();
      } catch (error) {
        this.noteUnpublished();
        throw error;
      }
    });
  }

  /**
   * Brings NATS to what was applied: at the start, after a reconnect, and whenever the two may differ. Errors:
   * `STORE_FOREIGN`, `REVISION_BEHIND`, and those of `Bus`; call it again then.
   */
  settle(): Promise<void> {
    return this.#queue.run(() => this.#settle());
  }

  /** Whether NATS still names the revision in force. If false, call {@link settle}. Errors as in `Bus`. */
  holds(): Promise<boolean> {
    return this.#queue.run(async () => this.#isSettled && (await this.#attached().holds(this.#release)));
  }

  /** Resolves when no change is under way. */
  async idle(): Promise<void> {
    await this.#queue.idle();
    await this.#publication.idle();
  }

  /** Compiles the rules again when a source has changed a service that they name. */
  #onInventory(published: ReadonlySet<string>): void {
    if (!namesServiceAmong(ruleDependencies(this.#release), published)) return;
    this.#queue
      .run(() => this.inventory.exclusively((turn) => this.#recompile(turn)))
      .catch((error: unknown) => {
        this.#log.error(
          { err: error },
          'could not recompile the rules after a change of a service that they name; retrying',
        );
        this.noteUnpublished();
      });
  }

  async #recompile(turn: InventoryTurn): Promise<void> {
    // The next settling compiles the rules anyway.
    if (!this.#isSettled) return;
    const present = this.#build(this.#release.state);
    if (Buffer.compare(present.sealed, this.#release.sealed) === 0) return;
    await this.#commit(turn, this.#emptyCommit('a service that rules name has changed'));
    await this.#attached().clearIntent();
  }

  async #settled(dryRun: boolean): Promise<void> {
    if (dryRun) return;
    if (!this.#isSettled) await this.settle().catch(unavailable);
    else if (!this.#attached().isConnected) {
      unavailable(new CulvertError({ code: 'BUS_DISCONNECTED', message: 'NATS is not connected' }));
    }
  }

  #change(
    request: Changing,
    hasInventory: boolean,
    makePlan: (reading: InventoryReading) => WholePlan | undefined | Promise<WholePlan | undefined>,
  ): Promise<ChangeOutcome | undefined> {
    return this.#queue.run(async () => {
      if (!this.#isSettled && !request.dryRun) await this.#settle().catch(unavailable);
      const { revision } = this.#release.state;
      try {
        const outcome = await workedOut({
          inventory: this.inventory,
          isHeld: hasInventory,
          work: async (reading) => {
            const plan = await makePlan(reading);
            if (plan === undefined) return undefined;
            request.permit?.(changedDocuments(this.#release.state, this.inventory, plan), this.#nowMs());
            const made = await this.#planner.compile(reading, this.#release, plan, this.#author(request));
            return { plan, made };
          },
          release: (worked) => (worked !== undefined && 'release' in worked.made ? worked.made.release : null),
          make: async (turn, worked) => (worked === undefined ? undefined : this.#make(turn, worked, request)),
        });
        if (this.#release.state.revision > revision) await this.#reached();
        return outcome;
      } catch (error) {
        // Later changes of the inventory wait for the publication, which stands still until then.
        if (!this.#isSettled && !request.dryRun) this.noteUnpublished();
        throw error;
      }
    });
  }

  async #make(
    turn: InventoryTurn,
    { plan, made }: { readonly plan: WholePlan; readonly made: CompiledChange },
    request: Changing,
  ): Promise<ChangeOutcome> {
    if ('problems' in made) return { ok: false, problems: made.problems };
    if (made.commit !== null && !request.dryRun) {
      await request.begin?.();
      await this.#commit(turn, made.commit, made.release);
    }
    const { revision } = this.#release.state;
    return outcomeOf(plan, made.warnings, { revision, sequence: this.inventory.sequence });
  }

  async #settle(): Promise<void> {
    this.#publication.suspend();
    // What is still being written would change the buckets after they are listed.
    await this.#publication.idle();
    try {
      const distribution = this.#attached();
      distribution.forget();
      const content = await distribution.read();
      await this.inventory.exclusively((turn) => this.#settleRules(turn, content));
      await this.#publication.settle(distribution);
      await distribution.clearIntent();
      this.#isSettled = true;
    } catch (error) {
      this.#isSettled = false;
      this.#publication.abandon(error);
      throw error;
    }
  }

  async #settleRules(turn: InventoryTurn, content: StoreContent): Promise<void> {
    const journal = this.#isJournalUsable ? this.#release.state : undefined;
    const chosen = chooseState(journal, content);
    if (chosen.kind === 'adopt') {
      this.#log.warn({ revision: chosen.state.revision }, 'took over from NATS what the journal does not hold');
    }
    const revision = chosen.kind === 'adopt' ? chosen.state.revision : (journal?.revision ?? 0);
    const { inventory, history } = this;
    await settleInventory({ inventory, turn, content, revision, history, log: this.#log });
    if (chosen.kind === 'first start') return this.#commit(turn, this.#emptyCommit());
    if (chosen.kind === 'adopt') {
      const release = this.#build(chosen.state);
      await this.#journal.checkpoint(chosen.state);
      this.#isJournalUsable = true;
      this.#release = release;
    }
    // Adopted services may change what the rules compile to.
    else this.#release = this.#build(this.#release.state);
    const replacesForeign = content.published.kind === 'foreign';
    if (replacesForeign) {
      const { revision } = content.published;
      this.#log.error({ revision }, 'NATS held rules that this controller did not sign; replacing them');
    }
    await this.#publish(turn, { replacesForeign });
  }

  /** Errors: see {@link apply}. */
  async #commit(turn: InventoryTurn, commit: Commit, built?: CompiledRevision): Promise<void> {
    const release = built ?? this.#build(applyCommit(this.#release.state, commit));
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
      await handOver(this.inventory, turn, commit);
      await this.#publish(turn);
    } catch (cause) {
      throw this.#pending(commit.revision, cause);
    }
  }

  /** Waits for the registry, which is published after the rules. */
  async #reached(): Promise<void> {
    const { revision } = this.#release.state;
    try {
      await this.#publication.reached(this.inventory.sequence);
      await this.#attached().clearIntent();
    } catch (cause) {
      throw this.#pending(revision, cause);
    }
  }

  async #publish(turn: InventoryTurn, { replacesForeign = false } = {}): Promise<void> {
    const distribution = this.#attached();
    if ((await distribution.publish(this.#release, { replacesForeign })) === 'superseded') {
      this.#log.warn('the published rules of this revision differ from the compiled ones; making a new revision');
      await this.#commit(turn, this.#emptyCommit());
    }
  }

  #pending(revision: number, cause: unknown): CulvertError {
    this.#isSettled = false;
    this.#publication.suspend();
    return new CulvertError({
      code: 'PUBLISH_PENDING',
      message: `revision ${revision} is stored, but could not be published completely: ${describeError(cause)}`,
      hint: 'it is published as soon as NATS answers; look at culvert status',
      cause,
    });
  }

  #emptyCommit(message = ''): Commit {
    return nextCommit(this.#release.state, this.#author({ by: 'system', message }));
  }

  #author({ by, message = '' }: { readonly by: string; readonly message?: string }): Author {
    return { by, nowMs: this.#nowMs(), message };
  }

  #attached(): Distribution {
    if (this.#distribution !== undefined) return this.#distribution;
    throw new CulvertError({ code: 'BUS_DISCONNECTED', message: 'NATS has not been connected yet' });
  }

  /** Stored documents were valid when they were applied. If this version refuses them, it stops rather than guess. */
  #build(state: CommittedState): CompiledRevision {
    const built = this.#builder.build(state, registeredServices(this.inventory.registry.published.values()));
    if ('release' in built) return built.release;
    throw new CulvertError({
      code: 'STORE_INVALID',
      message: `this version refuses what is stored: ${built.problems.map(formatProblem).join('; ')}`,
      hint: 'run the version that was running before, correct the documents there, then upgrade',
    });
  }
}
