import { join } from 'node:path';
import type { Log } from '../../shared/log.js';
import type { RevisionCompiler } from '../release/compiled-revision.js';
import type { HistoryLimits } from './history.js';
import { Journal } from './journal.js';
import { ResourceStore } from './resource-store.js';

/** Opens the journal and the store that stands on it. Whoever calls this closes the journal, after the store is idle. */
export async function openStore(init: {
  readonly stateDir: string;
  readonly builder: RevisionCompiler;
  readonly limits: HistoryLimits;
  readonly log: Log;
  readonly nowMs: () => number;
}): Promise<{ store: ResourceStore; journal: Journal }> {
  const { stateDir, builder, limits, log, nowMs } = init;
  const { journal, state } = await Journal.open({ path: join(stateDir, 'journal.log'), log, nowMs, limits });
  try {
    return { journal, store: new ResourceStore({ journal, state, builder, log, nowMs }) };
  } catch (error) {
    await journal.close();
    throw error;
  }
}
