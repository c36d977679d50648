import type { Problem } from '../resources/kinds/problem.js';
import type { Service } from '../resources/kinds/service.js';
import { atOnce } from '../../shared/in-turns.js';
import { compilingSnapshot } from '../compile/compile-snapshot.js';
import type { StoredResource } from '../inventory/stored-resource.js';
import type { Snapshot } from '../../shared/policy/snapshot.js';
import { sealSnapshot } from '../../shared/wire/signed.js';
import { writingSnapshot } from '../../shared/wire/snapshot-text.js';
import { storedInOrder, type CommittedState } from './committed-state.js';

/** Everything that is published for one committed state of the rules. */
export type CompiledRevision = {
  readonly state: CommittedState;
  readonly snapshot: Snapshot;
  readonly sealed: Uint8Array;
  /** Keys and values of `culvert_config`, rules only. */
  readonly config: ReadonlyMap<string, Uint8Array>;
};

export type Built = { readonly release: CompiledRevision } | { readonly problems: readonly Problem[] };

/**
 * Compiles and signs revisions. The same state and services always give the same bytes (Ed25519 is deterministic), so a
 * wiped store is rebuilt exactly as it was. Caches the encoded form of documents that did not change.
 */
export class RevisionCompiler {
  readonly #trustDomain: string;
  readonly #privateKeyPem: string;
  readonly #encoded = new WeakMap<StoredResource, Uint8Array>();

  constructor(init: { readonly trustDomain: string; readonly privateKeyPem: string }) {
    this.#trustDomain = init.trustDomain;
    this.#privateKeyPem = init.privateKeyPem;
  }

  /** Errors: `PAYLOAD_TOO_LARGE`. */
  build(state: CommittedState, services: readonly Service[]): Built {
    return atOnce(this.building(state, services));
  }

  /** {@link build} in steps. Rules may name `services` as peers; nothing else in the inventory affects the rules. */
  *building(state: CommittedState, services: readonly Service[]): Generator<void, Built> {
    const documents = storedInOrder(state);
    const { revision, createdAt, createdBy } = state;
    const meta = { revision, createdAt, createdBy, trustDomain: this.#trustDomain };
    const compiled = yield* compilingSnapshot([...documents.map(({ resource }) => resource), ...services], meta);
    yield;
    if ('problems' in compiled) return compiled;
    const { snapshot } = compiled;
    yield* writingSnapshot(snapshot);
    const sealed = sealSnapshot({ snapshot, privateKeyPem: this.#privateKeyPem });
    yield;
    const config = new Map<string, Uint8Array>();
    for (const stored of documents) {
      yield;
      config.set(stored.key, this.#encode(stored));
    }
    return { release: { state, snapshot, sealed, config } };
  }

  #encode(stored: StoredResource): Uint8Array {
    const known = this.#encoded.get(stored);
    if (known !== undefined) return known;
    const bytes = new TextEncoder().encode(JSON.stringify(stored));
    this.#encoded.set(stored, bytes);
    return bytes;
  }
}
