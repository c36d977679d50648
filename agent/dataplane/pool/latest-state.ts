import type { Snapshot } from '../../../shared/policy/snapshot.js';
import { assertNever } from '../../../shared/assert-never.js';
import type {
  CertificatesMessage,
  LocalWorkload,
  ProbesMessage,
  RulesAgeMessage,
  StateCommand,
  StateMessage,
} from '../messages.js';
import { SharedRegistry } from './shared-registry.js';

/**
 * The sum of all state messages so far, which brings a replacement worker to the state of the others. Kept by the
 * control thread.
 */
export class LatestState {
  readonly #registry = new SharedRegistry({ nowMs: () => performance.now() });
  #sequence: { readonly sequence?: number } = {};
  #rules: Extract<StateMessage, { type: 'rules' }> | null = null;
  #rulesAge: RulesAgeMessage | null = null;
  #certificates: CertificatesMessage | null = null;
  #probes: ProbesMessage | null = null;
  #workloads: readonly LocalWorkload[] = [];

  /** Returns the command for workers that have everything before this message. */
  absorb(message: StateMessage): StateCommand {
    switch (message.type) {
      case 'registry':
        this.#sequence = message.sequence === undefined ? {} : { sequence: message.sequence };
        return { type: 'registry', ...this.#sequence, ...this.#registry.absorb(message) };
      case 'rules':
        this.#rules = message;
        return message;
      case 'rulesAge':
        this.#rulesAge = message;
        return message;
      case 'certificates':
        this.#certificates = message;
        return message;
      case 'probes':
        this.#probes = message;
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

  /**
   * In the order in which a worker must receive them: the listeners come last, so that no connection is decided on
   * partial state.
   */
  replay(): readonly StateCommand[] {
    const messages: StateCommand[] = [];
    const registry = this.#registry.replay();
    if (registry !== null) messages.push({ type: 'registry', ...this.#sequence, ...registry });
    if (this.#rules !== null) messages.push(this.#rules);
    if (this.#rulesAge !== null) messages.push(this.#rulesAge);
    if (this.#certificates !== null) messages.push(this.#certificates);
    messages.push({ type: 'workloads', workloads: this.#workloads });
    if (this.#probes !== null) messages.push(this.#probes);
    return messages;
  }
}
