import { closeSync } from 'node:fs';
import { CommandRunner } from '../../capture/firewall/command-runner.js';
import { workloadHooks } from '../../capture/namespace-capture.js';
import { detectBackend } from '../../capture/firewall/netfilter-backend.js';
import { RuleSet } from '../../capture/firewall/rule-set.js';
import type { WorkloadCapture } from '../../capture/workload-capture.js';
import { openNetns } from '../../native/netns.js';
import type { LedgerEntry } from './capture-ledger.js';
import type { CaptureControl } from './workload-controls.js';

/**
 * {@link WorkloadCapture} as the workload reconciler sees it. The caller keeps ownership of the capture. `inCharge`: when
 * no other agent manages this host any more; rejects if that never comes.
 */
export function captureControl(capture: WorkloadCapture, inCharge: Promise<void>): CaptureControl {
  return {
    whenInCharge: () => inCharge,
    apply: (workload) => capture.apply(workload),
    release: (name) => capture.release(name),
    letGo: (name, netnsInode) => capture.letGo(name, netnsInode),
    problemOf: (name) => capture.status().find((status) => status.name === name)?.problem ?? null,
    isHolding: (name, netnsInode) =>
      capture.status().some((status) => status.name === name && status.netnsInode === netnsInode),
    isRuled: (netnsPath, netnsInode) => capture.isRuled(netnsPath, netnsInode),
    followCgroup: () => capture.followCgroup(),
    expect: (left) => capture.left.add(left),
    removeLeftover: async (leftover) => {
      await removeLeftover(leftover);
      await capture.leftIsGone(leftover.netnsInode);
    },
  };
}

/** Checks the inode again: the path may lead to another namespace by now, whose rules are not ours to remove. */
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
