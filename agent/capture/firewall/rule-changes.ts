import { closeSync } from 'node:fs';
import { transparentReplyTable } from '../../ports.js';
import { takeChanges, watchChanges } from '../../native/addon.js';
import type { CaptureLog } from './capture-log.js';
import type { NetfilterBackend } from './netfilter-backend.js';

type Watched = { readonly netfilter: number; readonly routes: number | null };

/**
 * Reports that the nftables rules or the policy routing of a namespace changed, at two system calls a poll. The change
 * may not concern our rules, so compare then. Keeps the namespace alive until it is closed.
 */
export class RuleChanges {
  readonly #log: CaptureLog;
  readonly #place: string;
  #watched: Watched | null;

  private constructor(watched: Watched, o: { log: CaptureLog; place: string }) {
    this.#watched = watched;
    this.#log = o.log;
    this.#place = o.place;
  }

  /** Null where the kernel reports no changes: with legacy iptables, or if the kernel refuses, which is logged. */
  static open(o: {
    /** The namespace; the fd stays the caller's. Null: the agent's own. */
    readonly netnsFd: number | null;
    /** Also report changes of policy routing. */
    readonly hasRoutes: boolean;
    readonly backend: NetfilterBackend;
    /** Name of the namespace in the log. */
    readonly place: string;
    readonly log: CaptureLog;
  }): RuleChanges | null {
    if (o.backend.kind !== 'nft') return null;
    try {
      return new RuleChanges(watch(o.netnsFd, o.hasRoutes), o);
    } catch (error) {
      o.log.warn(
        { place: o.place, err: error },
        'capture: the kernel does not report changes of rules; they are found by comparison only',
      );
      return null;
    }
  }

  get isOpen(): boolean {
    return this.#watched !== null;
  }

  /** Whether something may have changed since the last call. False after it was closed. */
  take(): boolean {
    if (this.#watched === null) return false;
    const { netfilter, routes } = this.#watched;
    try {
      const areRulesChanged = takeChanges({ fd: netfilter });
      return (routes !== null && takeChanges({ fd: routes, routeTable: transparentReplyTable })) || areRulesChanged;
    } catch (error) {
      this.#log.warn({ place: this.#place, err: error }, 'capture: the kernel no longer reports changes of rules');
      this.close();
      return true;
    }
  }

  close(): void {
    if (this.#watched === null) return;
    closeSync(this.#watched.netfilter);
    if (this.#watched.routes !== null) closeSync(this.#watched.routes);
    this.#watched = null;
  }
}

function watch(netnsFd: number | null, hasRoutes: boolean): Watched {
  const netfilter = watchChanges({ netnsFd, of: 'netfilter' });
  try {
    return { netfilter, routes: hasRoutes ? watchChanges({ netnsFd, of: 'routes' }) : null };
  } catch (error) {
    closeSync(netfilter);
    throw error;
  }
}
