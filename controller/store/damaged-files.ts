import { readdir } from 'node:fs/promises';
import type { Problem } from '../resources/kinds/problem.js';

/** A warning for each damaged file of the store that was moved aside and is still in the state directory. */
export async function damagedFiles(stateDir: string): Promise<Problem[]> {
  const names = await readdir(stateDir).catch(() => []);
  const damaged = names.filter((name) => /^(journal|inventory)\.log\.corrupt-\d+$/.test(name));
  return damaged.sort().map((name) => ({
    severity: 'warning',
    fileName: null,
    document: null,
    line: null,
    resource: null,
    path: '',
    message: `${name} in the state directory of the controller was damaged: a part of it was taken over from NATS, and history may have a gap`,
    hint: 'check the disk, look at culvert history, then move that file away',
  }));
}
