import type { Problem } from '../../shared/model/problem.js';
import { atOnce } from '../../shared/in-turns.js';
import { compilingSnapshot } from '../../shared/policy/compile-snapshot.js';
import { registryEntries } from '../../shared/policy/registry-entries.js';
import type { Snapshot } from '../../shared/policy/snapshot.js';
import { sealRegistryRoot } from '../../shared/wire/registry-root.js';
import { registryKey, type RegistryEntry } from '../../shared/wire/registry.js';
import { sealRegistryEntry, sealSnapshot } from '../../shared/wire/signed.js';
import { writingSnapshot } from '../../shared/wire/snapshot-text.js';
import { resourcesOf, type CommittedState, type StoredResource } from '../store/committed-state.js';
import { RegistryTreeBuilder, type ListedEntry, type RegistryTree } from './registry-tree.js';

/** Everything that is published of one committed state, ready to be written. */
export type Release = {
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

export type Built = { readonly release: Release } | { readonly problems: readonly Problem[] };

/**
 * Makes releases. The same state always gives the same bytes (Ed25519 is deterministic), so that a store which was
 * wiped is rebuilt as it was. Remembers what it signed for documents that did not change.
 */
export class ReleaseBuilder {
  readonly #trustDomain: string;
  readonly #privateKeyPem: string;
  readonly #encoded = new WeakMap<StoredResource, Uint8Array>();
  readonly #sealed = new WeakMap<StoredResource, Uint8Array>();
  readonly #tree = new RegistryTreeBuilder();

  constructor(init: { readonly trustDomain: string; readonly privateKeyPem: string }) {
    this.#trustDomain = init.trustDomain;
    this.#privateKeyPem = init.privateKeyPem;
  }

  /** Errors: `PAYLOAD_TOO_LARGE`. */
  build(state: CommittedState): Built {
    return atOnce(this.building(state));
  }

  /** The same in steps: the first release of thousands of documents takes a second. */
  *building(state: CommittedState): Generator<void, Built> {
    const resources = resourcesOf(state);
    const { revision, createdAt, createdBy } = state;
    const meta = { revision, createdAt, createdBy, trustDomain: this.#trustDomain };
    const compiled = yield* compilingSnapshot(resources, meta);
    yield;
    if ('problems' in compiled) return compiled;
    const registered = registryEntries(resources, this.#trustDomain);
    if ('problems' in registered) return registered;
    const { snapshot } = compiled;
    const { entries } = registered;
    yield* writingSnapshot(snapshot);
    const sealed = sealSnapshot({ snapshot, privateKeyPem: this.#privateKeyPem });
    yield;
    const config = new Map<string, Uint8Array>();
    for (const stored of state.resources.values()) {
      config.set(stored.key, this.#encode(stored));
      yield;
    }
    const registry = new Map<string, Uint8Array>();
    for (const entry of entries) {
      registry.set(registryKey(entry), this.#seal(entry, state));
      yield;
    }
    const release = { state, snapshot, sealed, entries, config, registry };
    return { release: { ...release, ...this.#listing(release) } };
  }

  #listing({ state, entries, registry }: Pick<Release, 'state' | 'entries' | 'registry'>) {
    const listed = function* (): Generator<ListedEntry> {
      for (const entry of entries) {
        const key = registryKey(entry);
        const sealed = registry.get(key);
        if (sealed !== undefined) yield { key, sequence: sequenceOf(entry, state), sealed };
      }
    };
    let tree: RegistryTree | null = null;
    const registryTree = (): RegistryTree =>
      (tree ??= this.#tree.build({ sequence: state.revision, entries: listed() }));
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

  #seal(entry: RegistryEntry, state: CommittedState): Uint8Array {
    const stored = documentOf(entry, state);
    const known = stored === undefined ? undefined : this.#sealed.get(stored);
    if (known !== undefined) return known;
    const sequence = sequenceOf(entry, state);
    const bytes = sealRegistryEntry({ entry, sequence, privateKeyPem: this.#privateKeyPem });
    if (stored !== undefined) this.#sealed.set(stored, bytes);
    return bytes;
  }
}

function documentOf(entry: RegistryEntry, state: CommittedState): StoredResource | undefined {
  const kind = entry.kind === 'workload' ? 'Workload' : 'Service';
  return state.resources.get(`${kind}.${entry.namespace}.${entry.name}`);
}

/** The revision that last changed the document: it only ever rises, and a rebuild finds it again. */
function sequenceOf(entry: RegistryEntry, state: CommittedState): number {
  return documentOf(entry, state)?.revision ?? state.revision;
}
