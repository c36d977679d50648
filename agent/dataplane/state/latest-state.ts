import type { RegistryEntry } from '../../../shared/wire/registry.js';
import { registryKey } from '../../../shared/wire/registry.js';
import type { Snapshot } from '../../../shared/policy/snapshot.js';
import { assertNever } from '../../../shared/assert-never.js';
import type { CertificatesMessage, LocalWorkload, ToWorker } from '../messages.js';

/** The messages that change what a worker decides by. */
export type StateMessage = Extract<ToWorker, { type: 'registry' | 'rules' | 'certificates' | 'workloads' }>;

/**
 * What all state messages so far add up to, so that a worker that was replaced can be brought to where the others are.
 * Kept by the control thread; the registry is folded together from its incremental messages.
 */
export class LatestState {
  readonly #registry = new Map<string, RegistryEntry>();
  #hasRegistry = false;
  #rules: Extract<StateMessage, { type: 'rules' }> | null = null;
  #certificates: CertificatesMessage | null = null;
  #workloads: readonly LocalWorkload[] = [];

  absorb(message: StateMessage): void {
    switch (message.type) {
      case 'registry':
        if (message.isFull) this.#registry.clear();
        for (const key of message.removals) this.#registry.delete(key);
        for (const entry of message.upserts) this.#registry.set(registryKey(entry), entry);
        this.#hasRegistry = true;
        return;
      case 'rules':
        this.#rules = message;
        return;
      case 'certificates':
        this.#certificates = message;
        return;
      case 'workloads':
        this.#workloads = message.workloads;
        return;
      default:
        assertNever(message);
    }
  }

  get snapshot(): Snapshot | null {
    return this.#rules?.snapshot ?? null;
  }

  get workloads(): readonly LocalWorkload[] {
    return this.#workloads;
  }

  /** In the order in which a worker must get them: the listeners come last, so that they never decide on half a state. */
  replay(): readonly StateMessage[] {
    const messages: StateMessage[] = [];
    if (this.#hasRegistry) {
      messages.push({ type: 'registry', isFull: true, upserts: [...this.#registry.values()], removals: [] });
    }
    if (this.#rules !== null) messages.push(this.#rules);
    if (this.#certificates !== null) messages.push(this.#certificates);
    messages.push({ type: 'workloads', workloads: this.#workloads });
    return messages;
  }
}
