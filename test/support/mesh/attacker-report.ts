import type { LabProcess } from '../../lab/lab-process.js';

/** What an attacker did: all that it began, what was answered or opened, and bytes that it sent. */
export type AttackerReport = { readonly connections: number; readonly answered: number; readonly bytes: number };

/** The last report of `bench/load/attacker.ts`. Throws when the program has ended. */
export function reportOf(attacker: LabProcess): AttackerReport {
  attacker.requireRunning();
  const [, json] = /^report (\{.*\})$/.exec(attacker.lines.findLast((line) => line.startsWith('report')) ?? '') ?? [];
  return json === undefined ? { connections: 0, answered: 0, bytes: 0 } : (JSON.parse(json) as AttackerReport);
}
