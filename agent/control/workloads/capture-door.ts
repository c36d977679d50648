import { closeSync } from 'node:fs';
import { CommandRunner } from '../../capture/firewall/command-runner.js';
import { workloadHooks } from '../../capture/namespace-capture.js';
import { detectBackend } from '../../capture/firewall/netfilter-backend.js';
import { RuleSet } from '../../capture/firewall/rule-set.js';
import type { WorkloadCapture } from '../../capture/workload-capture.js';
import { openNetns } from '../../native/netns.js';
import type { LedgerEntry } from './capture-ledger.js';
import type { CaptureDoor } from './workload-reconciler.js';

/** {@link WorkloadCapture} as the workload keeper sees it. The capture stays the caller's. */
export function captureDoor(capture: WorkloadCapture): CaptureDoor {
  return {
    apply: (workload) => capture.apply(workload),
    release: (name) => capture.release(name),
    problemOf: (name) => capture.status().find((status) => status.name === name)?.problem ?? null,
    isHolding: (name, netnsInode) =>
      capture.status().some((status) => status.name === name && status.netnsInode === netnsInode),
    removeLeftover,
  };
}

/** Looks at the inode again: the path may lead to another namespace by now, whose rules are not ours to take. */
async function removeLeftover(leftover: LedgerEntry): Promise<void> {
  const runner = new CommandRunner({ maxParallel: 1 });
  const backend = await detectBackend(runner);
  const { fd, inode } = openNetns(leftover.netnsPath);
  try {
    if (inode === leftover.netnsInode) {
      await new RuleSet({ runner, backend, hasRoutes: true, hooks: workloadHooks }).remove(fd);
    }
  } finally {
    closeSync(fd);
  }
}
