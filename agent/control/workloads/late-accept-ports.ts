import type { CompiledExternal } from '../../../shared/policy/snapshot.js';
import { lateAcceptPortsOf } from '../../../shared/routing/late-accept.js';
import { registryKey } from '../../../shared/routing/registry-entry.js';
import type { RegistryMessage } from '../../dataplane/messages.js';

/**
 * The ports of which some destination is accepted late. The SYNs of all workloads of this node to these ports are looked
 * at. The cost of a change depends on the entries that it touches.
 */
export class LateAcceptPorts {
  readonly #byKey = new Map<string, readonly number[]>();
  #external: readonly number[] = [];
  #ports: readonly number[] = [];

  /** In ascending order. */
  get ports(): readonly number[] {
    return this.#ports;
  }

  /** Returns whether {@link ports} changed. */
  useRegistry({ isFull, upserts, removals }: Pick<RegistryMessage, 'isFull' | 'upserts' | 'removals'>): boolean {
    let isTouched = isFull && this.#byKey.size > 0;
    if (isFull) this.#byKey.clear();
    for (const key of removals) if (this.#byKey.delete(key)) isTouched = true;
    for (const entry of upserts) {
      const key = registryKey(entry);
      const ports = lateAcceptPortsOf(entry);
      if (ports.length > 0) this.#byKey.set(key, ports);
      else if (!this.#byKey.delete(key)) continue;
      isTouched = true;
    }
    return isTouched && this.#settle();
  }

  /** Returns whether {@link ports} changed. */
  useExternals(externals: readonly CompiledExternal[]): boolean {
    this.#external = externals.flatMap(({ lateAcceptPorts = [] }) => lateAcceptPorts);
    return this.#settle();
  }

  #settle(): boolean {
    const before = this.#ports.join(' ');
    this.#ports = [...new Set([...this.#external, ...[...this.#byKey.values()].flat()])].sort((a, b) => a - b);
    return this.#ports.join(' ') !== before;
  }
}
