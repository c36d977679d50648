import type { Problem } from '../resources/kinds/problem.js';
import { atOnce } from '../../shared/in-turns.js';
import { compilingSnapshot } from '../compile/compile-snapshot.js';
import { registryEntries } from '../inventory/registry-entries.js';
import type { Snapshot } from '../../shared/policy/snapshot.js';
import { sealRegistryRoot } from '../../shared/wire/registry-root.js';
import { registryKey, type RegistryEntry } from '../../shared/routing/registry-entry.js';
import { sealRegistryEntry, sealSnapshot } from '../../shared/wire/signed.js';
import { writingSnapshot } from '../../shared/wire/snapshot-text.js';
import { storedInOrder, type CommittedState, type StoredResource } from './committed-state.js';
import { listedEntry, RegistryTreeBuilder, type ListedEntry, type RegistryTree } from '../inventory/registry-tree.js';

/** Everything that is published of one committed state, ready to be written. */
export type CompiledRevision = {
  readonly state: CommittedState;
  readonly snapshot: Snapshot;
  readonly sealed: Uint8Array;
  readonly entries: readonly RegistryEntry[];
  /** Keys and values of `culvert_config`. */
  readonly config: ReadonlyMap<string, Uint8Array>;
  /** Keys and values of `culvert_registry`, without its root and pages. */
  readonly registry: ReadonlyMap<string, Uint8Array>;
  /** Root and pages: of thousands of keys, so only whoever publishes them pays for them. */
  readonly registryTree: () => RegistryTree;
  readonly sealRegistryRoot: () => Uint8Array;
};

export type Built = { readonly release: CompiledRevision } | { readonly problems: readonly Problem[] };

/** What a document gives for the registry. */
type Registered = { readonly entry: RegistryEntry; readonly listed: ListedEntry };

/**
 * Makes releases. The same state always gives the same bytes (Ed25519 is deterministic), so that a store which was
 * wiped is rebuilt as it was. Remembers what it made of documents that did not change.
 */
export class RevisionCompiler {
  readonly #trustDomain: string;
  readonly #privateKeyPem: string;
  readonly #encoded = new WeakMap<StoredResource, Uint8Array>();
  readonly #registered = new WeakMap<StoredResource, Registered>();
  readonly #tree = new RegistryTreeBuilder();

  constructor(init: { readonly trustDomain: string; readonly privateKeyPem: string }) {
    this.#trustDomain = init.trustDomain;
    this.#privateKeyPem = init.privateKeyPem;
  }

  /** Errors: `PAYLOAD_TOO_LARGE`. */
  build(state: CommittedState): Built {
    return atOnce(this.building(state));
  }

  /** {@link build} in steps: the first release of thousands of documents takes a second. */
  *building(state: CommittedState): Generator<void, Built> {
    const documents = storedInOrder(state);
    const { revision, createdAt, createdBy } = state;
    const meta = { revision, createdAt, createdBy, trustDomain: this.#trustDomain };
    const compiled = yield* compilingSnapshot(
      documents.map(({ resource }) => resource),
      meta,
    );
    yield;
    if ('problems' in compiled) return compiled;
    const { snapshot } = compiled;
    yield* writingSnapshot(snapshot);
    const sealed = sealSnapshot({ snapshot, privateKeyPem: this.#privateKeyPem });
    yield;
    const config = new Map<string, Uint8Array>();
    const registry = new Map<string, Uint8Array>();
    const entries: RegistryEntry[] = [];
    const listed: ListedEntry[] = [];
    const problems: Problem[] = [];
    // Keys of documents and of registry entries have the same order.
    for (const stored of documents) {
      yield;
      config.set(stored.key, this.#encode(stored));
      const registered = this.#register(stored);
      if (registered === null) continue;
      if ('problems' in registered) {
        problems.push(...registered.problems);
        continue;
      }
      entries.push(registered.entry);
      listed.push(registered.listed);
      registry.set(registered.listed.key, registered.listed.sealed);
    }
    if (problems.length > 0) return { problems };
    const release = { state, snapshot, sealed, entries, config, registry };
    return { release: { ...release, ...this.#listing(revision, listed) } };
  }

  #listing(
    sequence: number,
    entries: readonly ListedEntry[],
  ): Pick<CompiledRevision, 'registryTree' | 'sealRegistryRoot'> {
    let tree: RegistryTree | null = null;
    const registryTree = (): RegistryTree => (tree ??= this.#tree.build({ sequence, entries }));
    return {
      registryTree,
      sealRegistryRoot: () => sealRegistryRoot({ root: registryTree().root, privateKeyPem: this.#privateKeyPem }),
    };
  }

  #encode(stored: StoredResource): Uint8Array {
    const known = this.#encoded.get(stored);
    if (known !== undefined) return known;
    const bytes = new TextEncoder().encode(JSON.stringify(stored));
    this.#encoded.set(stored, bytes);
    return bytes;
  }

  /**
   * Null for a document that gives no entry. The sequence is the revision that last changed the document: it only ever
   * rises, and a rebuild finds it again.
   */
  #register(stored: StoredResource): Registered | { readonly problems: readonly Problem[] } | null {
    const { resource, revision: sequence } = stored;
    if (resource.kind !== 'Workload' && resource.kind !== 'Service') return null;
    const known = this.#registered.get(stored);
    if (known !== undefined) return known;
    const made = registryEntries([resource], this.#trustDomain);
    if ('problems' in made) return made;
    const [entry] = made.entries;
    if (entry === undefined) return null;
    const sealed = sealRegistryEntry({ entry, sequence, privateKeyPem: this.#privateKeyPem });
    const registered = { entry, listed: listedEntry({ key: registryKey(entry), sequence, sealed }) };
    this.#registered.set(stored, registered);
    return registered;
  }
}
