import { fileURLToPath } from 'node:url';
import type { LabNode } from '../lab/lab-node.js';
import type { LabProcess } from '../lab/lab-process.js';

export type LoadProgram = 'hold-connections' | 'storm' | 'slow-readers' | 'fast-reader';

/** Starts a program of test/bench/load in a namespace. The caller stops it. */
export function startLoad(
  node: LabNode,
  program: LoadProgram,
  at: { readonly ip: string; readonly port: number },
  count: number,
): Promise<LabProcess> {
  const file = fileURLToPath(new URL(`load/${program}.js`, import.meta.url));
  return node.spawn([process.execPath, file, at.ip, String(at.port), String(count)]);
}

/** The first report of the program that contains this figure. Throws when the program ends before, or at the deadline. */
export async function reportOf(
  load: LabProcess,
  figure: string,
  deadlineMs: number,
): Promise<Readonly<Record<string, number>>> {
  const [, json = '{}'] = await load.waitForLine(new RegExp(`^report (\\{.*"${figure}":.*\\})$`), deadlineMs);
  return JSON.parse(json) as Record<string, number>;
}
