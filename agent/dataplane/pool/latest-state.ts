import type { Snapshot } from '../../../shared/policy/snapshot.js';
import { assertNever } from '../../../shared/assert-never.js';
import type { CertificatesMessage, LocalWorkload, StateCommand, StateMessage } from '../messages.js';
import { SharedRegistry } from './shared-registry.js';

/**
 * What all state messages so far add up to, so that a worker that was replaced can be brought to where the others are.
 * Kept by the control thread.
 */
export class LatestState {
  readonly #registry = new SharedRegistry();
  #rules: Extract<StateMessage, { type: 'rules' }> | null = null;
  #certificates: CertificatesMessage | null = null;
  #workloads: readonly LocalWorkload[] = [];

  /** What to tell those that know everything up to this message. */
  absorb(message: StateMessage): StateCommand {
    switch (message.type) {
      case 'registry':
        return { type: 'registry', ...this.#registry.absorb(message) };
      case 'rules':
        this.#rules = message;
        return message;
      case 'certificates':
        this.#certificates = message;
        return message;
      case 'workloads':
        this.#workloads = message.workloads;
        return message;
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
  replay(): readonly StateCommand[] {
    const messages: StateCommand[] = [];
    const registry = this.#registry.replay();
    if (registry !== null) messages.push({ type: 'registry', ...registry });
    if (this.#rules !== null) messages.push(this.#rules);
    if (this.#certificates !== null) messages.push(this.#certificates);
    messages.push({ type: 'workloads', workloads: this.#workloads });
    return messages;
  }
}
