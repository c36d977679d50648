import { readdirSync, readFileSync } from 'node:fs';

/** Environment variable of the test runner. Every process that a test starts inherits it, detached or not. */
export const testRunVariable = 'CULVERT_TEST_RUN';

export type FoundProcess = { readonly pid: number; readonly command: string };

/** Processes other than this one that a test of this run started and that still run. */
export function processesOfRun(testRun: string): FoundProcess[] {
  const marker = `${testRunVariable}=${testRun}`;
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && pid !== process.pid)
    .filter((pid) => readProc(pid, 'environ').split('\0').includes(marker))
    .map((pid) => ({ pid, command: readProc(pid, 'cmdline').replaceAll('\0', ' ').trim() }));
}

/** Empty for a process that has ended or is a zombie. */
function readProc(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return '';
  }
}
