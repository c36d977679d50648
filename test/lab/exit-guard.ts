import { tearDown } from './teardown.js';
import type { LabState } from './lab-state.js';

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const guarded = new Map<string, LabState>();

/**
 * Takes the lab down when this process ends in any way that it can notice: normal end, uncaught exception, `process.exit`
 * and the signals that end a program. SIGKILL is left to `sweepStaleLabs`.
 */
export function guardLab(state: LabState): void {
  if (guarded.size === 0) {
    process.on('exit', tearDownAll);
    for (const signal of signals) process.on(signal, onSignal);
  }
  guarded.set(state.prefix, state);
}

/** The lab is gone, or to be held: nothing to do at exit any more. */
export function releaseLab(prefix: string): void {
  if (!guarded.delete(prefix) || guarded.size > 0) return;
  process.off('exit', tearDownAll);
  for (const signal of signals) process.off(signal, onSignal);
}

/**
 * A program that handles the signal itself ends in its own order, and the lab goes at its exit. Otherwise our listener
 * has switched off the signal's default, ending the process: so that is done here.
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
