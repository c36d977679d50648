import { tearDown } from './teardown.js';
import type { LabState } from './lab-state.js';

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const guarded = new Map<string, LabState>();

/**
 * Tears the lab down when this process ends: normally, by an uncaught exception, by `process.exit` or by a terminating
 * signal. After a SIGKILL `sweepStaleLabs` removes the lab.
 */
export function guardLab(state: LabState): void {
  if (guarded.size === 0) {
    process.on('exit', tearDownAll);
    for (const signal of signals) process.on(signal, onSignal);
  }
  guarded.set(state.prefix, state);
}

/** Stops guarding a lab that was torn down or is to be held. */
export function releaseLab(prefix: string): void {
  if (!guarded.delete(prefix) || guarded.size > 0) return;
  process.off('exit', tearDownAll);
  for (const signal of signals) process.off(signal, onSignal);
}

/**
 * If the program also handles the signal, it ends by itself and its exit tears the lab down. Otherwise our listener has
 * disabled the signal's default action, so this function ends the process.
 */
function onSignal(signal: NodeJS.Signals): void {
  if (process.listenerCount(signal) > 1) return;
  tearDownAll();
  process.kill(process.pid, signal);
}

function tearDownAll(): void {
  for (const state of guarded.values()) {
    releaseLab(state.prefix);
    try {
      tearDown(state);
    } catch (error) {
      process.stderr.write(`${String(error)}\n`);
    }
  }
}
